// The terminal: what is one, progress bars, Ctrl-C, output that is checked.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace lode::cli {

bool IsTerminal(int descriptor);  // and TERM is not "dumb"
int TerminalColumns();

// Set by Ctrl-C (SIGINT) and by SIGTERM. After InstallInterrupt a second Ctrl-C while it is set ends the
// process with 130.
std::atomic<bool>& Interrupted();
void InstallInterrupt();
Error InterruptedError();

// Writes to standard output. Errors (a full disk, a closed pipe) come from Flush, and once more at exit.
void Print(std::string_view text);
Result<void> FlushOutput();

// "label  42%  312/742  52.0 tok/s  0:08 left" on standard error, redrawn at most ten times a second and
// only once the work has taken more than half a second; nothing when that is no terminal.
class ProgressBar {
 public:
  ProgressBar(std::string label, std::string unit, int64_t total);
  ~ProgressBar();
  void Update(int64_t done);
  void Finish();  // clears the line

 private:
  using Clock = std::chrono::steady_clock;
  std::string label_, unit_;
  int64_t total_;
  bool enabled_;
  bool drawn_ = false;
  Clock::time_point start_, last_;
};

}  // namespace lode::cli
