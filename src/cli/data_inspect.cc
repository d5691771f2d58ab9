// lode data inspect: what a model would be taught by some data, token by token.
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "base/text.h"
#include "base/utf8.h"
#include "cli/console.h"
#include "cli/data.h"

namespace lode::cli {
namespace {

struct Flags {
  DataFlags data;
  int64_t shown = 3;
};

// Data is not trusted: what steers a terminal is shown, not sent.
std::string Visible(std::string_view text) {
  std::string out;
  for (const char c : ReplaceInvalidUtf8(text)) {
    const bool control =
        (static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t') || c == 0x7F;
    out += control ? Format("\\x%02x", static_cast<unsigned>(c)) : std::string(1, c);
  }
  return out;
}

// Writes an example: what is taught in colour, with neighbouring tokens told apart, or between
// marks.
class Painter {
 public:
  Painter(const text::Tokenizer& tokenizer, bool colour) : tokenizer_(tokenizer), colour_(colour) {}

  std::string Paint(const tune::Example& example) const {
    std::string out;
    size_t t = 0;
    while (t < example.tokens.size()) {
      const float weight = example.weights[t];
      // Tokens may end inside a character, so pieces of one kind are decoded together.
      size_t end = t + 1;
      while (end < example.tokens.size() && example.weights[end] == weight) ++end;
      out += colour_ ? Colours(example, t, end) : Marks(example, t, end);
      t = end;
    }
    return out + "\n";
  }

 private:
  std::string Bytes(const tune::Example& example, size_t begin, size_t end) const {
    std::string bytes;
    for (size_t t = begin; t < end; ++t) bytes += tokenizer_.TokenBytes(example.tokens[t]);
    return bytes;
  }
  std::string Text(const tune::Example& example, size_t begin, size_t end) const {
    return Visible(Bytes(example, begin, end));
  }

  std::string Marks(const tune::Example& example, size_t begin, size_t end) const {
    const float weight = example.weights[begin];
    const std::string text = Text(example, begin, end);
    if (weight == 0) return text;
    return weight == 1 ? "⟦" + text + "⟧" : Format("⟦%g: ", weight) + text + "⟧";
  }

  std::string Colours(const tune::Example& example, size_t begin, size_t end) const {
    std::string out;
    for (size_t t = begin; t < end;) {
      size_t next = t + 1;  // whole characters, of four bytes at most
      while (next < std::min(end, t + 4) && !IsValidUtf8(Bytes(example, t, next))) ++next;
      const bool taught = example.weights[t] != 0;
      const bool odd = t % 2 == 1;
      const char* style =
          taught ? (odd ? "\x1b[30;42m" : "\x1b[30;102m") : (odd ? "\x1b[2m" : "\x1b[0m");
      out += style;
      for (const char c : Text(example, t, next)) {
        // A line that ends in colour would be coloured to the terminal's edge.
        out += c != '\n' ? std::string(1, c)
                         : (taught ? "↵\x1b[0m\n" : "\x1b[0m\n") + std::string(style);
      }
      out += "\x1b[0m";
      t = next;
    }
    return out;
  }

  const text::Tokenizer& tokenizer_;
  const bool colour_;
};

Json ExampleJson(const tune::Example& example, const text::Tokenizer& tokenizer) {
  Json pieces = Json::array();
  for (const int32_t id : example.tokens) pieces.push_back(std::string(tokenizer.TokenBytes(id)));
  return {{"tokens", example.tokens}, {"weights", example.weights}, {"pieces", std::move(pieces)}};
}

Json RecordJson(const tune::Place& place, const tune::Encoded& encoded,
                const text::Tokenizer& tokenizer) {
  Json json = {{"place", tune::ToString(place)}, {"kind", tune::Name(encoded.kind)}};
  const auto list = [&](const char* key, const std::vector<tune::Example>& examples) {
    for (const auto& example : examples) json[key].push_back(ExampleJson(example, tokenizer));
  };
  list("sequences", encoded.examples);
  list("rejected", encoded.rejected);
  if (encoded.task) {
    json["prompt"] = encoded.task->prompt;
    json["prompt_text"] = encoded.task->prompt_text;
    json["environment"] = encoded.task->environment;
    json["task"] = encoded.task->task;
  }
  return json;
}

std::string RecordText(const tune::Place& place, const tune::Encoded& encoded,
                       const Painter& painter) {
  std::string out;
  const auto list = [&](const char* what, const std::vector<tune::Example>& examples) {
    size_t number = 0;
    for (const tune::Example& example : examples) {
      out += Format("--- %s (%s%s", ToString(place).c_str(), Name(encoded.kind), what);
      if (examples.size() > 1) out += Format(", %zu of %zu", ++number, examples.size());
      out += Format("): %lld tokens, %lld supervised\n", static_cast<long long>(example.size()),
                    static_cast<long long>(CountSupervised(example)));
      out += painter.Paint(example);
    }
  };
  const bool pair = encoded.kind == tune::RecordKind::kPreference;
  list(pair ? ", chosen" : "", encoded.examples);
  list(", rejected", encoded.rejected);
  if (encoded.task) {
    out += Format("--- %s (task): %zu tokens of prompt\n", ToString(place).c_str(),
                  encoded.task->prompt.size());
    out += Visible(encoded.task->prompt_text) + "\n";
    out += "judged by  " + DumpJson(encoded.task->task) + "\n";
  }
  return out;
}

Result<void> RunInspect(const Flags& flags) {
  LODE_ASSIGN(const tune::ReadOptions options, flags.data.Read());
  LODE_ASSIGN(const DataTools tools, OpenDataTools(flags.data));
  const text::Tokenizer& tokenizer = *tools.text->tokenizer;
  const Painter painter(tokenizer, IsTerminal(STDOUT_FILENO));
  tune::Report report;
  Json records = Json::array();
  int64_t seen = 0;
  const auto show = [&](const tune::Place& place, const tune::Encoded& encoded) -> Result<void> {
    if (Interrupted()) return InterruptedError();
    if (seen++ >= flags.shown) return {};
    if (flags.data.json) {
      records.push_back(RecordJson(place, encoded, tokenizer));
    } else {
      Print(RecordText(place, encoded, painter));
    }
    return {};
  };
  LODE_TRY(tune::ReadData(flags.data.files, *tools.encoder, options, &report, show));
  if (flags.data.json) {
    Json json = report.ToJson();
    json["examples"] = std::move(records);
    Print(DumpJson(json, 2) + "\n");
  } else {
    Print((flags.shown > 0 ? "\n" : "") + Visible(report.Text()));
  }
  return report.Verdict(flags.data.strict);
}

}  // namespace

void AddDataInspect(CLI::App* data, Action* action) {
  auto flags = std::make_shared<Flags>();
  const char* const name = "inspect";
  CLI::App* verb = data->add_subcommand(
      name, "Which tokens are taught, how long sequences are, and what is wrong or odd");
  flags->data.AddTo(verb);
  verb->add_option("-n,--n", flags->shown, "records shown (0: only the counts)")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 40));
  verb->footer(
      "What is taught is green on a terminal and stands between ⟦ and ⟧ elsewhere: what the model\n"
      "itself must write when it answers, as the checkpoint's own template says. Where the "
      "template\n"
      "rewrites earlier turns, one conversation becomes several sequences.\n"
      "Example: lode data inspect chats.jsonl --model demo -n 5");
  verb->callback([=] { *action = [=] { return RunInspect(*flags); }; });
}

}  // namespace lode::cli
