#include "tune/run_text.h"

#include <utility>

#include "api/open.h"
#include "base/file.h"
#include "formats/hf_checkpoint.h"

namespace lode::tune {
namespace {

constexpr const char* kNames[] = {"tokenizer.json", "tokenizer_config.json",
                                  "special_tokens_map.json", "chat_template.jinja",
                                  "generation_config.json"};

Result<TextFiles> FilesOf(const formats::HfCheckpoint& checkpoint) {
  TextFiles files;
  for (const char* name : kNames) {
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

// What the files say, of those that no checkpoint brought along.
Result<RunText> TextOf(TextFiles files) {
  RunText text;
  LODE_ASSIGN(text.tokenizer, text::Tokenizer::FromHuggingFace(files["tokenizer.json"],
                                                               files["tokenizer_config.json"]));
  if (!files["chat_template.jinja"].empty()) {
    LODE_ASSIGN(text.chat_template, text::ChatTemplate::Parse(files["chat_template.jinja"]));
  }
  if (const auto id = text.tokenizer->bos_id()) text.bos = text.tokenizer->TokenText(*id);
  if (const auto id = text.tokenizer->eos_id()) text.eos = text.tokenizer->TokenText(*id);
  text.stop_ids = text.tokenizer->stop_ids();
  std::erase_if(files, [](const auto& file) { return file.second.empty(); });
  text.files = std::move(files);
  return text;
}

}  // namespace

Result<RunText> ReadRunText(const std::string& folder) {
  TextFiles files;
  for (const char* name : kNames) {
    const std::string path = folder + "/" + name;
    if (!FileExists(path) && name != kNames[0]) continue;
    LODE_ASSIGN(files[name], ReadFile(path));
  }
  Result<RunText> text = TextOf(std::move(files));
  if (!text.ok()) text.error().AddContext(folder);
  return text;
}

Result<RunText> MakeRunText(const std::string& kind, const tensor::TensorSource* checkpoint,
                            const std::vector<std::string>& texts) {
  if (kind == "model") return TextOf(*checkpoint);
  if (kind == "bytes") return TextOf(ByteVocabulary());
  std::string all;
  for (const std::string& one : texts) all += one;
  return TextOf(CharacterVocabulary(all));
}

}  // namespace lode::tune
