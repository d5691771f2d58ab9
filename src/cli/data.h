// The verbs of `lode data`: what they share.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <vector>

#include "api/open.h"
#include "cli/console.h"
#include "cli/verbs.h"
#include "tune/data/dataset.h"

namespace lode::cli {

// Which data, for which model, and what of it is taught.
struct DataFlags {
  std::vector<std::string> files;
  std::string model, as, supervise = "auto", variables;
  bool mask_thinking = false, special_in_text = false, plain_input = false, strict = false;
  bool json = false;
  int64_t sequence_max = 0;

  void AddTo(CLI::App* verb);
  Result<tune::ReadOptions> Read() const;
};

// A checkpoint's text and what encodes with it. Life: the encoder refers to the tools.
struct DataTools {
  std::unique_ptr<api::TextTools> text;
  std::unique_ptr<tune::Encoder> encoder;
};
Result<DataTools> OpenDataTools(const DataFlags& flags);

// A bar over the bytes of files. Life: one reading.
class FileProgress {
 public:
  static Result<FileProgress> Make(const std::string& label, const std::vector<std::string>& paths);
  // Errors: kCancelled after Ctrl-C.
  Result<void> Update(const tune::Place& place);

 private:
  FileProgress() = default;
  std::unique_ptr<ProgressBar> bar_;
  std::string file_;
  int64_t before_ = 0, size_ = 0;  // bytes of the files before, and of this one
};

void AddDataInspect(CLI::App* data, Action* action);
void AddDataTokenize(CLI::App* data, Action* action);
void AddDataPack(CLI::App* data, Action* action);
void AddDataBpe(CLI::App* data, Action* action);

}  // namespace lode::cli
