#include "tune/run_text.h"

#include "api/open.h"
#include "formats/hf_checkpoint.h"

namespace lode::tune {
namespace {

Result<TextFiles> FilesOf(const formats::HfCheckpoint& checkpoint) {
  TextFiles files;
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
                           "chat_template.jinja", "generation_config.json"}) {
    if (!checkpoint.HasFile(name)) continue;
    LODE_ASSIGN(files[name], checkpoint.ReadFile(name));
  }
  return files;
}

Result<RunText> TextOf(const tensor::TensorSource& source) {
  const auto* checkpoint = dynamic_cast<const formats::HfCheckpoint*>(&source);
  if (checkpoint == nullptr) {
    return Error(Code::kUnsupported, source.path() + ": training needs a Hugging Face folder",
                 "make one: lode convert " + source.path() + " FOLDER");
  }
  LODE_ASSIGN(api::TextTools tools, api::OpenText(source));
  RunText text;
  text.tokenizer = std::move(tools.tokenizer);
  text.chat_template = std::move(tools.chat_template);
  text.bos = std::move(tools.bos);
  text.eos = std::move(tools.eos);
  text.stop_ids = std::move(tools.stop_ids);
  LODE_ASSIGN(text.files, FilesOf(*checkpoint));
  return text;
}

}  // namespace

Result<RunText> MakeRunText(const std::string& kind, const tensor::TensorSource* checkpoint,
                            const std::vector<std::string>& texts) {
  if (kind == "model") return TextOf(*checkpoint);
  RunText text;
  if (kind == "bytes") {
    text.files = ByteVocabulary();
  } else {
    std::string all;
    for (const std::string& one : texts) all += one;
    text.files = CharacterVocabulary(all);
  }
  LODE_ASSIGN(text.tokenizer,
              text::Tokenizer::FromHuggingFace(text.files["tokenizer.json"],
                                               text.files["tokenizer_config.json"]));
  LODE_ASSIGN(text.chat_template, text::ChatTemplate::Parse(text.files["chat_template.jinja"]));
  text.eos = text.tokenizer->TokenText(*text.tokenizer->eos_id());
  text.stop_ids = {*text.tokenizer->eos_id()};
  return text;
}

}  // namespace lode::tune
