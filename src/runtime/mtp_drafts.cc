#include "runtime/mtp_drafts.h"

#include "runtime/sampling/draft.h"

namespace lode::runtime {

MtpDrafts::MtpDrafts(Engine* engine, Sampler* sampler, int64_t sequences_max)
    : engine_(*engine),
      sampler_(*sampler),
      logits_(static_cast<size_t>(sequences_max * engine->vocabulary())),
      cost_(engine->rows_max()) {}

uint64_t MtpDrafts::Bytes(const model::ModelSpec& spec, int64_t sequences_max) {
  return spec.mtp.empty()
             ? 0
             : static_cast<uint64_t>(sequences_max * spec.vocabulary) * sizeof(float);
}

// One more guess; false when the sampler finds none.
bool MtpDrafts::Draw(const Item& item, const float* logits) {
  DrawState state;
  state.position = item.tokens->size();
  state.history = item.tokens;
  state.answer_begin = item.tokens->size() - static_cast<size_t>(item.answer);
  state.mask = item.mask;
  const auto draft =
      DrawDraft(sampler_, {logits, static_cast<size_t>(engine_.vocabulary())}, *item.drafts,
                *item.sampling, &state);
  if (draft.ok()) item.drafts->push_back(*draft);
  return draft.ok();
}

void MtpDrafts::Run(std::span<const Item> items, const std::function<double()>& milliseconds) {
  struct Chain {
    const Item* item;
    int64_t last_row;  // in hidden()
  };
  const StackMemory::Scope scope(&memory_);
  std::pmr::vector<DraftItem> rows(&memory_);
  std::pmr::vector<Chain> chains(&memory_);
  int64_t row = 0;
  for (const Item& item : items) {
    if (item.wanted > 0) item.drafts->clear();
    if (item.next_tokens.empty()) continue;
    rows.push_back({item.sequence, item.position, item.hidden, item.next_tokens,
                    item.wanted > 0 ? StepItem::Want::kLast : StepItem::Want::kNone});
    row += std::ssize(item.next_tokens);
    if (item.wanted > 0) chains.push_back({&item, row - 1});
  }
  const int64_t width = engine_.model().spec.width;
  double start = milliseconds();
  while (!rows.empty() && engine_.Draft(rows, logits_.data()).ok()) {
    std::pmr::vector<Chain> going(&memory_);
    rows.clear();
    for (size_t i = 0; i < chains.size(); ++i) {
      const Item& item = *chains[i].item;
      const float* logits = logits_.data() + static_cast<int64_t>(i) * engine_.vocabulary();
      if (!Draw(item, logits) || std::ssize(*item.drafts) >= item.wanted) continue;
      rows.push_back({item.sequence,
                      item.position + std::ssize(item.next_tokens) + std::ssize(*item.drafts) - 1,
                      engine_.hidden() + chains[i].last_row * width,
                      {&item.drafts->back(), 1}});
      going.push_back({&item, std::ssize(going)});
    }
    const double end = milliseconds();
    if (!chains.empty()) cost_.Observe(row, end - start);
    start = end;
    chains = std::move(going);
    row = std::ssize(rows);
  }
}

}  // namespace lode::runtime
