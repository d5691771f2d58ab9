// The text side of a run: how text becomes tokens, and the files that say so, which stand beside
// every checkpoint.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "tensor/source.h"
#include "text/template/chat_template.h"
#include "text/tokenizer/tokenizer.h"
#include "tune/data/encode.h"
#include "tune/plain_vocabulary.h"

namespace lode::tune {

struct RunText {
  std::unique_ptr<text::Tokenizer> tokenizer;
  std::unique_ptr<text::ChatTemplate> chat_template;  // null: there is none
  std::string bos, eos;                               // as the template wants them
  std::vector<int32_t> stop_ids;                      // that end an answer
  TextFiles files;

  TextSide side() const { return {tokenizer.get(), chat_template.get(), bos, eos, stop_ids}; }
};

// `kind`: "model" for the checkpoint's own, "bytes", or "chars" for those of `texts`.
// Errors: a checkpoint that is no Hugging Face folder; its files' own.
Result<RunText> MakeRunText(const std::string& kind, const tensor::TensorSource* checkpoint,
                            const std::vector<std::string>& texts);
// That of a folder with tokenizer.json and, if they are there, the other files of a checkpoint
// about its text. Errors: those of the files.
Result<RunText> ReadRunText(const std::string& folder);

}  // namespace lode::tune
