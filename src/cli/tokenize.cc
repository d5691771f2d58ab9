// lode tokenize, lode detokenize: text <-> ids.
#include <memory>

#include "api/open.h"
#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "cli/console.h"
#include "cli/model_flags.h"
#include "cli/verbs.h"

namespace lode::cli {
namespace {

struct TokenizeFlags {
  std::string model, text, file;
  bool json = false, no_special = false, add_bos = false;
};

Result<void> RunTokenize(const TokenizeFlags& flags) {
  if (flags.file.empty() == flags.text.empty()) {
    return Error(Code::kBadInput, "give the text as an argument or with --file");
  }
  std::string text = flags.text;
  if (!flags.file.empty()) {
    LODE_ASSIGN(text, ReadFile(flags.file, uint64_t{4} << 30));
  }
  LODE_ASSIGN(const auto source, api::OpenSource(flags.model));
  LODE_ASSIGN(const auto tokenizer, api::OpenTokenizer(*source));
  text::EncodeOptions options;
  options.recognise_special = !flags.no_special;
  options.add_special = flags.add_bos;
  LODE_ASSIGN(const std::vector<int32_t> ids, tokenizer->Encode(text, options));
  std::string out;
  if (flags.json) {
    out = "[";
    for (size_t i = 0; i < ids.size(); ++i) {
      if (i > 0) out += ", ";
      out += std::to_string(ids[i]);
    }
    out += "]\n";
  } else {
    for (const int32_t id : ids) {
      out += Format("%7d  ", id) + DumpJson(Json(std::string(tokenizer->TokenBytes(id)))) + "\n";
    }
    out += Format("%zu tokens, %zu bytes\n", ids.size(), text.size());
  }
  Print(out);
  return {};
}

struct DetokenizeFlags {
  std::string model, ids;
  bool skip_special = false, json = false;
};

Result<void> RunDetokenize(const DetokenizeFlags& flags) {
  LODE_ASSIGN(const std::vector<int32_t> ids, ParseTokenList(flags.ids));
  LODE_ASSIGN(const auto source, api::OpenSource(flags.model));
  LODE_ASSIGN(const auto tokenizer, api::OpenTokenizer(*source));
  LODE_ASSIGN(const std::string text, tokenizer->Decode(ids, flags.skip_special));
  Print(flags.json ? DumpJson(Json(text)) + "\n" : text + "\n");
  return {};
}

}  // namespace

void AddTokenize(CLI::App& app, Action* action) {
  auto flags = std::make_shared<TokenizeFlags>();
  CLI::App* verb = app.add_subcommand("tokenize", "Text to token ids; no BOS unless asked for");
  verb->add_option("MODEL", flags->model, "whose tokenizer")->required();
  verb->add_option("TEXT", flags->text, "the text");
  verb->add_option("--file", flags->file, "read the text from a file");
  verb->add_flag("--json", flags->json, "a JSON array of ids");
  verb->add_flag("--no-special", flags->no_special,
                 "special tokens written in the text stay ordinary text");
  verb->add_flag("--add-bos", flags->add_bos, "add what the tokenizer puts around a text");
  verb->callback([=] { *action = [=] { return RunTokenize(*flags); }; });
}

void AddDetokenize(CLI::App& app, Action* action) {
  auto flags = std::make_shared<DetokenizeFlags>();
  CLI::App* verb = app.add_subcommand("detokenize", "Token ids to text");
  verb->add_option("MODEL", flags->model, "whose tokenizer")->required();
  verb->add_option("IDS", flags->ids, "token ids, as 1,2,3")->required();
  verb->add_flag("--skip-special", flags->skip_special, "leave control tokens out");
  verb->add_flag("--json", flags->json, "as a JSON string");
  verb->callback([=] { *action = [=] { return RunDetokenize(*flags); }; });
}

}  // namespace lode::cli
