#include "cli/speed.h"

#include <cstdio>

#include "base/text.h"
#include "cli/console.h"

namespace lode::cli {
namespace {

// Bytes of weights that one token reads: everything but the embedding and the experts not chosen.
uint64_t WeightBytesPerToken(const model::Model& model) {
  const auto bytes = [](const kernels::Weight& w) {
    return static_cast<uint64_t>(w.rows * w.row_bytes) +
           (w.block_scales != nullptr ? static_cast<uint64_t>(w.rows * w.cols / 16) : 0);
  };
  uint64_t sum = bytes(model.head);
  for (const model::Layer& layer : model.layers) {
    sum += bytes(layer.mamba2.in) + bytes(layer.mamba2.out);
    const model::AttentionWeights& a = layer.attention;
    sum += bytes(a.query) + bytes(a.key) + bytes(a.value) + bytes(a.out);
    sum += bytes(layer.mlp.up) + bytes(layer.mlp.down);
    const model::MoeWeights& m = layer.moe;
    sum += bytes(m.router) + bytes(m.shared_up) + bytes(m.shared_down) + bytes(m.latent_down) +
           bytes(m.latent_up);
    if (!m.up.empty()) {
      sum += static_cast<uint64_t>(layer.spec.moe.top_k) * (bytes(m.up[0]) + bytes(m.down[0]));
    }
  }
  return sum;
}

}  // namespace

void PrintSpeed(const runtime::GenerateReport& report, const runtime::Engine& engine,
                std::optional<double> joules) {
  const int64_t computed = report.prompt_tokens - report.reused_tokens;
  std::string line = Format("prompt %lld tokens", static_cast<long long>(report.prompt_tokens));
  if (report.reused_tokens > 0) {
    line += Format(" (%lld reused", static_cast<long long>(report.reused_tokens));
    // Why no more, when more was known or something differs from what was said before.
    const runtime::Reason reason = report.match.reason;
    if (reason != runtime::Reason::kComplete && reason != runtime::Reason::kNewPrefix) {
      line += Format("; %s", Name(reason));
    }
    line += ")";
  }
  if (report.prompt_seconds > 0) {
    line += Format(", %.1f tok/s", static_cast<double>(computed) / report.prompt_seconds);
  }
  if (report.new_tokens > 0 && report.generate_seconds > 0) {
    const double rate = static_cast<double>(report.new_tokens) / report.generate_seconds;
    line += Format("; answer %lld tokens, %.1f tok/s (", static_cast<long long>(report.new_tokens),
                   rate);
    if (report.drafted_tokens > 0) {  // weights are then read once for several tokens
      line += Format("%lld of %lld guesses stood", static_cast<long long>(report.accepted_tokens),
                     static_cast<long long>(report.drafted_tokens));
    } else {
      line += Format("%.2f GB/s of weights",
                     rate * static_cast<double>(WeightBytesPerToken(engine.model())) * 1e-9);
    }
    line += Format(", %d threads)", engine.threads());
  }
  const int64_t tokens = computed + report.new_tokens;
  if (joules && tokens > 0) {
    line += Format("; %.1f J, %.2f J/token", *joules, *joules / static_cast<double>(tokens));
  }
  if (report.reason == runtime::StopReason::kContextFull) line += "; the context is full";
  const bool color = IsTerminal(2);
  std::fprintf(stderr, "%s[%s]%s\n", color ? "\x1b[2m" : "", line.c_str(), color ? "\x1b[0m" : "");
}

}  // namespace lode::cli
