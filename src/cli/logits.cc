// lode logits: the numbers themselves, for whoever wants to check us.
#include <unistd.h>

#include <algorithm>
#include <memory>

#include "base/file.h"
#include "base/text.h"
#include "cli/console.h"
#include "cli/model_flags.h"
#include "cli/verbs.h"

namespace lode::cli {
namespace {

struct Flags {
  ModelFlags model;
  std::string tokens, tokens_file, out;
  int64_t chunk = 0;
};

// NumPy's format 1.0: float32 [rows, cols], C order.
std::string NpyHeader(int64_t rows, int64_t cols) {
  std::string header = Format("{'descr': '<f4', 'fortran_order': False, 'shape': (%lld, %lld), }",
                              static_cast<long long>(rows), static_cast<long long>(cols));
  while ((10 + header.size() + 1) % 64 != 0) header += ' ';
  header += '\n';
  std::string out = "\x93NUMPY";
  out += '\x01';
  out += '\0';
  out += static_cast<char>(header.size() & 255);
  out += static_cast<char>(header.size() >> 8);
  return out + header;
}

Result<void> RunLogits(Flags& flags) {
  if (flags.tokens.empty() == flags.tokens_file.empty()) {
    return Error(Code::kBadInput, "give the tokens with --tokens 1,2,3 or with --tokens-file");
  }
  if (!flags.tokens_file.empty()) {
    LODE_ASSIGN(flags.tokens, ReadFile(flags.tokens_file));
  }
  LODE_ASSIGN(const std::vector<int32_t> tokens, ParseTokenList(flags.tokens));
  LODE_ASSIGN(auto source, api::OpenSource(flags.model.model));
  LODE_ASSIGN(api::Running running,
              flags.model.Open(std::move(source), static_cast<int64_t>(tokens.size())));
  runtime::Engine& engine = *running.engine;
  const int64_t width = engine.vocabulary();
  LODE_ASSIGN(AtomicFile file, AtomicFile::Create(flags.out));
  LODE_TRY(file.Write(NpyHeader(static_cast<int64_t>(tokens.size()), width)));
  LODE_ASSIGN(runtime::Sequence sequence, engine.NewSequence());
  // Rows that are computed together. Their logits take about as much as the tokenizer, the template and
  // the rows that are left out, which this verb does without: so `inspect --plan` holds for it, too.
  constexpr int64_t kBufferBytes = 32 << 20;
  const int64_t rows =
      flags.chunk > 0
          ? flags.chunk
          : std::max<int64_t>(1, kBufferBytes / static_cast<int64_t>(sizeof(float)) / width);
  const auto step = static_cast<size_t>(std::min(rows, engine.rows_max()));
  std::vector<float> logits(step * static_cast<size_t>(width));
  ProgressBar bar("logits", "tok", static_cast<int64_t>(tokens.size()));
  for (size_t at = 0; at < tokens.size(); at += step) {
    const size_t count = std::min(step, tokens.size() - at);
    const std::span<const int32_t> piece = std::span(tokens).subspan(at, count);
    LODE_TRY(engine.Append(sequence, piece, logits.data(), true));
    LODE_TRY(file.Write(logits.data(), count * static_cast<size_t>(width) * sizeof(float)));
    bar.Update(static_cast<int64_t>(at + count));
    if (Interrupted()) return InterruptedError();
  }
  return file.Commit();
}

}  // namespace

void AddLogits(CLI::App& app, Action* action) {
  auto flags = std::make_shared<Flags>();
  CLI::App* verb =
      app.add_subcommand("logits", "Write the logits of every position to a .npy file");
  flags->model.AddTo(verb);
  verb->add_option("--tokens", flags->tokens, "token ids, as 1,2,3");
  verb->add_option("--tokens-file", flags->tokens_file, "a file with token ids, as 1,2,3");
  verb->add_option("--out", flags->out, "the file to write: float32 [T, V]")->required();
  verb->add_option("--chunk", flags->chunk, "rows computed together (changes no bit)")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20));
  verb->footer("Example: lode logits demo --tokens 1,42,7 --out logits.npy --activations f32");
  verb->callback([=] { *action = [=] { return RunLogits(*flags); }; });
}

}  // namespace lode::cli
