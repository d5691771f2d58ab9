#include "cli/console.h"

#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "base/file.h"
#include "base/text.h"

namespace lode::cli {
namespace {

std::atomic<bool> interrupted{false};

void OnInterrupt(int) {
  if (interrupted.exchange(true)) ::_exit(130);
}

}  // namespace

bool IsTerminal(int descriptor) {
  const char* term = std::getenv("TERM");
  return ::isatty(descriptor) == 1 && (term == nullptr || std::strcmp(term, "dumb") != 0);
}

int TerminalColumns() {
  winsize size = {};
  if (::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return 80;
}

std::atomic<bool>& Interrupted() { return interrupted; }

void InstallInterrupt() {
  struct sigaction action = {};
  action.sa_handler = OnInterrupt;  // no SA_RESTART: a read of the next line ends, too
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
  ::signal(SIGPIPE, SIG_IGN);  // a closed pipe is an error of write, said in a sentence
}

Error InterruptedError() { return Error(Code::kCancelled, "interrupted"); }

void Print(std::string_view text) { std::fwrite(text.data(), 1, text.size(), stdout); }

Result<void> FlushOutput() {
  errno = 0;
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
    return SystemError("cannot write", "standard output", errno != 0 ? errno : EIO);
  }
  return {};
}

ProgressBar::ProgressBar(std::string label, std::string unit, int64_t total)
    : label_(std::move(label)),
      unit_(std::move(unit)),
      total_(total),
      enabled_(IsTerminal(STDERR_FILENO)),
      start_(Clock::now()),
      last_(start_) {}

ProgressBar::~ProgressBar() { Finish(); }

void ProgressBar::Update(int64_t done) {
  const auto now = Clock::now();
  const double elapsed = std::chrono::duration<double>(now - start_).count();
  if (!enabled_ || elapsed < 0.5 || (drawn_ && now - last_ < std::chrono::milliseconds(100)))
    return;
  last_ = now;
  drawn_ = true;
  const double rate = static_cast<double>(done) / elapsed;
  const double left = rate > 0 ? static_cast<double>(total_ - done) / rate : 0.0;
  const std::string line =
      Format("%s %3d%%  %lld/%lld  %.1f %s/s  %d:%02d left", label_.c_str(),
             total_ > 0 ? static_cast<int>(100 * done / total_) : 0, static_cast<long long>(done),
             static_cast<long long>(total_), rate, unit_.c_str(), static_cast<int>(left) / 60,
             static_cast<int>(left) % 60);
  std::fprintf(stderr, "\r%.*s\x1b[K", TerminalColumns() - 1, line.c_str());
  std::fflush(stderr);
}

void ProgressBar::Finish() {
  if (drawn_) std::fprintf(stderr, "\r\x1b[K");
  drawn_ = false;
  enabled_ = false;
}

}  // namespace lode::cli
