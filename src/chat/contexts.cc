#include "chat/contexts.h"

#include <algorithm>
#include <ctime>
#include <random>

#include "base/check.h"
#include "base/text.h"
#include "chat/contexts_kept.h"

namespace lode::chat {
namespace {

constexpr int64_t kForksMax = 1024;
constexpr size_t kNameBytesMax = 100, kMarksMax = 256;

Error NotThere(const std::string& id) {
  return Error(Code::kNotFound, "context: there is no context " + Quote(id, 60),
               "GET /v1/contexts lists yours");
}

Error Busy(const std::string& id) {
  return Error(Code::kCancelled, "context: another request runs on " + id,
               "wait until it has ended, or go on from a fork");
}

Result<int64_t> Resolve(const ContextText& text, const ContextPlace& place) {
  if (place.token) {
    if (1 <= *place.token && *place.token <= text.size()) return *place.token;
    return Error(Code::kBadInput,
                 Format("at.token: must be from 1 to %lld, and is %lld",
                        static_cast<long long>(text.size()), static_cast<long long>(*place.token)));
  }
  if (place.message) {
    std::string known;
    for (const ContextBoundary& boundary : text.boundaries) {
      if (boundary.messages == *place.message) return boundary.tokens;
      known += (known.empty() ? "" : ", ") + std::to_string(boundary.messages);
    }
    return Error(Code::kBadInput,
                 "at.message: the context was not whole after " + std::to_string(*place.message) +
                     " messages",
                 known.empty() ? "it holds plain text: give at.token" : "it was after " + known);
  }
  if (place.mark.empty()) return text.size();
  const auto found = text.marks.find(place.mark);
  if (found != text.marks.end()) return found->second;
  return Error(Code::kBadInput, "at.mark: there is no mark " + Quote(place.mark, 60));
}

}  // namespace

ContextText ContextText::First(int64_t at) const {
  if (at == size()) return *this;
  ContextText text;
  text.tokens = std::make_shared<const std::vector<int32_t>>(tokens->begin(), tokens->begin() + at);
  for (const auto& [mark, offset] : marks) {
    if (offset <= at) text.marks[mark] = offset;
  }
  if (dialogue == nullptr) return text;
  for (const ContextBoundary& boundary : boundaries) {
    if (boundary.tokens <= at) text.boundaries.push_back(boundary);
  }
  if (text.boundaries.empty() || text.boundaries.back().tokens != at) {
    text.boundaries.clear();
    return text;
  }
  Json cut = *dialogue;
  Json& messages = cut["messages"];
  messages.erase(messages.begin() + text.boundaries.back().messages, messages.end());
  text.dialogue = std::make_shared<const Json>(std::move(cut));
  return text;
}

// --- Turns ---------------------------------------------------------------------------------------

struct ContextTurn::Hold {
  Contexts* contexts = nullptr;
  Contexts::KeptPtr kept;
  bool claims = false;
};

ContextTurn::ContextTurn() = default;

ContextTurn::~ContextTurn() {
  if (!hold_->claims) return;
  const std::lock_guard lock(hold_->contexts->mutex_);
  hold_->kept->running = false;
  hold_->kept->used = Contexts::Kept::Clock::now();
}

const std::string& ContextTurn::id() const { return hold_->kept->id; }
const std::string& ContextTurn::salt() const { return hold_->kept->salt; }

void ContextTurn::SetPrompt(std::vector<int32_t> prompt, std::shared_ptr<const Json> dialogue) {
  prompt_ = std::move(prompt);
  dialogue_ = std::move(dialogue);
}

namespace {

// What the model said, as a message of a dialogue.
Json MessageOf(const text::ParsedOutput& output) {
  Json message = {{"role", "assistant"}, {"content", output.content}};
  if (!output.reasoning.empty()) message["reasoning_content"] = output.reasoning;
  Json calls = Json::array();
  for (const text::ParsedCall& call : output.calls) {
    auto arguments = ParseJson(call.arguments);
    Json value = arguments.ok() ? std::move(*arguments) : Json(call.arguments);
    calls.push_back({{"id", call.id},
                     {"type", "function"},
                     {"function", {{"name", call.name}, {"arguments", std::move(value)}}}});
  }
  if (!calls.empty()) message["tool_calls"] = std::move(calls);
  return message;
}

}  // namespace

void ContextTurn::Commit(const EndedAnswer& answer) {
  if (!std::exchange(hold_->claims, false)) return;
  ContextText text;
  const auto before = static_cast<int64_t>(text_.size());
  text.marks = text_.marks;
  std::erase_if(text.marks, [&](const auto& mark) { return mark.second > before; });
  std::vector<int32_t> tokens = std::move(prompt_);
  // Rendered anew, the beginning need not be what it was.
  const bool same = before <= std::ssize(tokens) &&
                    std::equal(text_.tokens->begin(), text_.tokens->end(), tokens.begin());
  if (!same) text.marks.clear();
  tokens.insert(tokens.end(), answer.tokens.begin(), answer.tokens.end());
  if (dialogue_ != nullptr) {
    Json dialogue = *dialogue_;
    dialogue["messages"].push_back(MessageOf(answer.output));
    if (same) text.boundaries = text_.boundaries;
    text.boundaries.push_back(
        {static_cast<int64_t>(dialogue["messages"].size()), std::ssize(tokens), true});
    text.dialogue = std::make_shared<const Json>(std::move(dialogue));
  }
  text.tokens = std::make_shared<const std::vector<int32_t>>(std::move(tokens));
  hold_->contexts->Commit(hold_->kept, std::move(text), answer.match);
}

void Contexts::Commit(const KeptPtr& kept, ContextText text,
                      std::shared_ptr<const runtime::Match> match) {
  bool pinned = false;
  {
    const std::lock_guard lock(mutex_);
    kept->running = false;
    kept->used = Kept::Clock::now();
    if (kept->removed) return;
    sums_[kept->tenant].tokens += text.size() - kept->text.size();
    kept->text = std::move(text);
    kept->reuse = std::move(match);
    pinned = kept->pin == ContextPin::kMemory && !kept->published;
  }
  if (pinned) PinNow(kept, false, nullptr);  // without room it stays where it was
}

// --- Which there are -----------------------------------------------------------------------------

std::string Contexts::NewId() {
  std::random_device device;
  std::string id = "ctx_";
  for (int i = 0; i < 3; ++i) id += Format("%08x", device());
  return id;
}

ContextInfo Contexts::InfoOf(const Kept& kept) const {
  ContextInfo info;
  info.id = kept.id;
  info.name = kept.name;
  info.parent = kept.parent;
  info.saved_as = kept.saved_as;
  info.tokens = kept.text.size();
  if (kept.text.dialogue != nullptr) {
    info.messages = static_cast<int64_t>((*kept.text.dialogue)["messages"].size());
  }
  info.pin = kept.pin;
  info.published = kept.published;
  info.running = kept.running;
  info.marks = kept.text.marks;
  info.ttl_seconds = kept.ttl_seconds;
  const std::chrono::duration<double> idle = Kept::Clock::now() - kept.used;
  info.idle_seconds = kept.running ? 0.0 : idle.count();
  info.created = kept.created;
  info.reuse = kept.reuse;
  return info;
}

ContextReport Contexts::ReportOf(const KeptPtr& kept) {
  const std::lock_guard lock(mutex_);
  ContextReport report;
  report.context = InfoOf(*kept);
  return report;
}

// Needs the mutex.
Result<Contexts::KeptPtr> Contexts::Find(const Origin& origin, const std::string& id) {
  const auto found = kept_.find(id);
  if (found == kept_.end() || found->second->tenant != origin.tenant || found->second->Expired()) {
    return NotThere(id);
  }
  found->second->used = Kept::Clock::now();
  return found->second;
}

// Needs the mutex.
Result<void> Contexts::CheckQuota(const Origin& origin, int64_t contexts, int64_t tokens) const {
  const auto found = sums_.find(origin.tenant);
  const Sum sum = found == sums_.end() ? Sum() : found->second;
  const int64_t most = origin.contexts_max < 0 ? options_.contexts_max : origin.contexts_max;
  if (sum.contexts + contexts > most) {
    return Error(Code::kNoSpace,
                 Format("context: %lld are kept, and there may be %lld",
                        static_cast<long long>(sum.contexts), static_cast<long long>(most)),
                 "DELETE those that are not needed, or give them a ttl_s");
  }
  if (sum.tokens + tokens <= options_.tokens_max) return {};
  return Error(
      Code::kNoSpace,
      Format("context: %lld tokens are kept, and there may be %lld",
             static_cast<long long>(sum.tokens), static_cast<long long>(options_.tokens_max)),
      "DELETE those that are not needed");
}

// Needs the mutex.
Result<Contexts::KeptPtr> Contexts::Add(const Origin& origin, NewContext context) {
  LODE_TRY(CheckQuota(origin, 1, context.text.size()));
  auto kept = std::make_shared<Kept>();
  kept->id = NewId();
  kept->tenant = origin.tenant;
  kept->salt = origin.salt;
  kept->limits = origin.limits;
  kept->parent = std::move(context.parent);
  kept->created = static_cast<int64_t>(std::time(nullptr));
  kept->name = std::move(context.name);
  kept->text = std::move(context.text);
  kept->ttl_seconds = std::max(0.0, context.ttl_seconds);
  Sum& sum = sums_[kept->tenant];
  ++sum.contexts;
  sum.tokens += kept->text.size();
  kept_.emplace(kept->id, kept);
  backend_->Post([kept, backend = backend_](runtime::Scheduler* scheduler) {
    if (scheduler == nullptr) return;
    const auto root = backend->EnterRoot({kept->tenant, kept->salt}, kept->limits);
    if (root.ok()) kept->root = *root;
  });
  return kept;
}

// Needs the mutex.
Result<Contexts::KeptPtr> Contexts::AddFork(const Origin& origin, const Kept& from,
                                            ContextText text) {
  NewContext fork;
  fork.text = std::move(text);
  fork.parent = from.id;
  fork.ttl_seconds = from.ttl_seconds;
  Origin own = origin;
  own.salt = from.salt;
  LODE_ASSIGN(KeptPtr kept, Add(own, std::move(fork)));
  kept->saved_as = from.saved_as;
  return kept;
}

void Contexts::Drop(const KeptPtr& kept) {
  {
    const std::lock_guard lock(mutex_);
    if (std::exchange(kept->removed, true)) return;
    Sum& sum = sums_[kept->tenant];
    sum.tokens -= kept->text.size();
    if (--sum.contexts == 0) sums_.erase(kept->tenant);
    kept_.erase(kept->id);
  }
  Unpin(kept);
  backend_->Post([kept, backend = backend_](runtime::Scheduler* scheduler) {
    if (scheduler != nullptr && kept->root) backend->LeaveRoot({kept->tenant, kept->salt});
  });
}

// --- At once -------------------------------------------------------------------------------------

std::vector<ContextInfo> Contexts::List(const Origin& origin) {
  std::vector<ContextInfo> list;
  const std::lock_guard lock(mutex_);
  for (const auto& [id, kept] : kept_) {
    if (kept->tenant == origin.tenant && !kept->Expired()) list.push_back(InfoOf(*kept));
  }
  std::stable_sort(list.begin(), list.end(),
                   [](const auto& a, const auto& b) { return a.created < b.created; });
  return list;
}

Result<ContextInfo> Contexts::Get(const Origin& origin, const std::string& id) {
  const std::lock_guard lock(mutex_);
  LODE_ASSIGN(const KeptPtr kept, Find(origin, id));
  return InfoOf(*kept);
}

Result<std::vector<ContextInfo>> Contexts::Fork(const Origin& origin, const std::string& id,
                                                int64_t n, const ContextPlace& at) {
  if (n < 1 || n > kForksMax) {
    return Error(Code::kBadInput,
                 Format("n: must be from 1 to %lld, and is %lld", static_cast<long long>(kForksMax),
                        static_cast<long long>(n)));
  }
  const std::lock_guard lock(mutex_);
  LODE_ASSIGN(const KeptPtr from, Find(origin, id));
  LODE_ASSIGN(const int64_t offset, Resolve(from->text, at));
  const ContextText text = from->text.First(offset);
  LODE_TRY(CheckQuota(origin, n, n * text.size()));
  std::vector<ContextInfo> forks;
  for (int64_t i = 0; i < n; ++i) {
    LODE_ASSIGN(const KeptPtr kept, AddFork(origin, *from, text));
    forks.push_back(InfoOf(*kept));
  }
  return forks;
}

Result<ContextInfo> Contexts::Truncate(const Origin& origin, const std::string& id,
                                       const ContextPlace& at) {
  KeptPtr kept;
  {
    const std::lock_guard lock(mutex_);
    LODE_ASSIGN(kept, Find(origin, id));
    if (kept->running) return Busy(id);
    LODE_ASSIGN(const int64_t offset, Resolve(kept->text, at));
    sums_[kept->tenant].tokens += offset - kept->text.size();
    kept->text = kept->text.First(offset);
  }
  // What is left of it stays pinned as far as it is in memory; the tail must not.
  if (kept->pin == ContextPin::kMemory) PinNow(kept, kept->published, nullptr);
  const std::lock_guard lock(mutex_);
  return InfoOf(*kept);
}

Result<ContextInfo> Contexts::Change(const Origin& origin, const std::string& id,
                                     const ContextChange& change) {
  if (change.name && change.name->size() > kNameBytesMax) {
    return Error(Code::kBadInput, Format("name: is longer than %zu bytes", kNameBytesMax));
  }
  KeptPtr kept;
  bool unpin = false;
  {
    const std::lock_guard lock(mutex_);
    LODE_ASSIGN(kept, Find(origin, id));
    if (change.mark) {
      auto& marks = kept->text.marks;
      const bool good = !change.mark->empty() && change.mark->size() <= kNameBytesMax;
      if (!good || marks.size() >= kMarksMax) {
        return Error(Code::kBadInput,
                     Format("mark: must have 1 to %zu bytes, and there may be %zu of them",
                            kNameBytesMax, kMarksMax));
      }
      marks[*change.mark] = kept->text.size();
    }
    if (change.name) kept->name = *change.name;
    if (change.ttl_seconds) kept->ttl_seconds = std::max(0.0, *change.ttl_seconds);
    if (change.pin == ContextPin::kNone) {
      unpin = std::exchange(kept->pin, ContextPin::kNone) == ContextPin::kMemory;
      kept->published = false;
    }
  }
  if (unpin) Unpin(kept);
  const std::lock_guard lock(mutex_);
  return InfoOf(*kept);
}

Result<void> Contexts::Remove(const Origin& origin, const std::string& id) {
  KeptPtr kept;
  {
    const std::lock_guard lock(mutex_);
    LODE_ASSIGN(kept, Find(origin, id));
  }
  Drop(kept);
  return {};
}

Result<std::shared_ptr<ContextTurn>> Contexts::Begin(const Origin& origin, const std::string& id,
                                                     bool fork) {
  const std::lock_guard lock(mutex_);
  LODE_ASSIGN(KeptPtr kept, Find(origin, id));
  if (kept->running && !fork) return Busy(id);
  if (kept->running) {
    LODE_ASSIGN(kept, AddFork(origin, *kept, kept->text));
  }
  std::shared_ptr<ContextTurn> turn = TurnOf(kept);
  turn->hold_->claims = kept->running = true;
  return turn;
}

Result<std::shared_ptr<ContextTurn>> Contexts::Look(const Origin& origin, const std::string& id) {
  const std::lock_guard lock(mutex_);
  LODE_ASSIGN(const KeptPtr kept, Find(origin, id));
  return TurnOf(kept);
}

// Needs the mutex.
std::shared_ptr<ContextTurn> Contexts::TurnOf(const KeptPtr& kept) {
  std::shared_ptr<ContextTurn> turn(new ContextTurn);
  turn->hold_ = std::make_unique<ContextTurn::Hold>();
  turn->hold_->contexts = this;
  turn->hold_->kept = kept;
  turn->text_ = kept->text;
  return turn;
}

void Contexts::Sweep() {
  std::vector<KeptPtr> late;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [id, kept] : kept_) {
      if (kept->Expired()) late.push_back(kept);
    }
  }
  for (const KeptPtr& kept : late) Drop(kept);
}

int64_t Contexts::count() {
  const std::lock_guard lock(mutex_);
  return std::ssize(kept_);
}

}  // namespace lode::chat
