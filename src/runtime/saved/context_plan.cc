// Which records a saved context will have, and in which order: what is needed to make sense of the
// rest first, then pages with each state behind the last page it needs.
#include <algorithm>
#include <cstring>
#include <memory>
#include <tuple>

#include "base/check.h"
#include "base/text.h"
#include "runtime/saved/context_open.h"
#include "runtime/saved/context_writer.h"

namespace lode::runtime {
namespace {

Error Contradiction(const std::string& what) {
  return Error(Code::kBadInput, "the context cannot be saved: " + what);
}

Result<void> CheckRuns(const ContextImage& image) {
  int64_t last = -1;
  for (const ContextRun& run : image.runs) {
    if (run.first <= last || (last < 0 && run.first != 0) ||
        run.first >= static_cast<int64_t>(image.tokens.size())) {
      return Contradiction("its runs do not begin at 0 and ascend");
    }
    last = run.first;
  }
  return {};
}

Result<void> CheckPages(const std::vector<std::span<const std::byte>>& pages, uint64_t bytes,
                        int64_t tokens, int64_t page_tokens, const char* what) {
  const int64_t most = bytes == 0 ? 0 : (tokens + page_tokens - 1) / page_tokens;
  if (static_cast<int64_t>(pages.size()) > most) {
    return Contradiction(
        Format("%zu %s for %lld tokens", pages.size(), what, static_cast<long long>(tokens)));
  }
  for (const auto& page : pages) {
    if (!page.empty() && page.size() != bytes) {
      return Contradiction(Format("one of its %s has %zu bytes", what, page.size()));
    }
  }
  return {};
}

Result<void> CheckImage(const ContextImage& image) {
  const ContextGeometry& g = image.geometry;
  const int64_t tokens = static_cast<int64_t>(image.tokens.size());
  if (g.page_tokens < 1 || g.page_tokens > kPageTokensMax) return Contradiction("page_tokens");
  for (const uint64_t bytes : {g.page_bytes, g.slot_bytes, g.mtp_page_bytes, g.hidden_bytes}) {
    if (bytes > kImageBytesMax) return Contradiction("a page or state is too long");
  }
  if (tokens > kTokensMax) return Contradiction("it has too many tokens");
  if (std::any_of(image.tokens.begin(), image.tokens.end(), [](int32_t id) { return id < 0; })) {
    return Contradiction("it has a negative token id");
  }
  if (image.mtp_tokens < 0 || image.mtp_tokens > tokens) return Contradiction("mtp_tokens");
  LODE_TRY(CheckRuns(image));
  LODE_TRY(CheckPages(image.pages, g.page_bytes, tokens, g.page_tokens, "pages"));
  LODE_TRY(
      CheckPages(image.mtp_pages, g.mtp_page_bytes, image.mtp_tokens, g.page_tokens, "MTP pages"));
  int64_t last = 0;
  for (const ContextSnapshot& snapshot : image.snapshots) {
    if (snapshot.offset <= last || snapshot.offset > tokens) {
      return Contradiction("its snapshots do not ascend within its tokens");
    }
    if (snapshot.state.size() != g.slot_bytes) return Contradiction("a state has another length");
    if (!snapshot.hidden.empty() && snapshot.hidden.size() != g.hidden_bytes) {
      return Contradiction("a hidden row has another length");
    }
    last = snapshot.offset;
  }
  if (!image.meta.is_object()) return Contradiction("its notes are no JSON object");
  return {};
}

std::vector<std::byte> Bytes(const std::string& text) {
  const auto* const begin = reinterpret_cast<const std::byte*>(text.data());
  return {begin, begin + text.size()};
}

// Adds items to a plan.
class Planner {
 public:
  explicit Planner(ContextPlan* plan) : plan_(plan) {}

  void Add(ContextPlanItem item) {
    plan_->raw_bytes += item.raw_bytes;
    plan_->items.push_back(std::move(item));
  }
  void AddOwned(RecordType type, std::vector<std::byte> bytes, bool compress) {
    const auto owned = std::make_shared<const std::vector<std::byte>>(std::move(bytes));
    ContextPlanItem item{type, 0, 0, 0, owned->size(), compress, {}};
    item.payload = [owned](std::vector<std::byte>*) -> Result<std::span<const std::byte>> {
      return std::span<const std::byte>(*owned);
    };
    Add(std::move(item));
  }
  void AddSpan(RecordType type, int64_t first_token, uint32_t rows,
               std::span<const std::byte> bytes) {
    ContextPlanItem item{type, first_token, rows, Chain(type, first_token), bytes.size(), true, {}};
    item.payload = [bytes](std::vector<std::byte>*) -> Result<std::span<const std::byte>> {
      return bytes;
    };
    Add(std::move(item));
  }

  // Everything but pages and states; fills the superblock's facts about them.
  Result<void> Frame(const std::string& name, std::span<const int32_t> tokens,
                     const std::vector<ContextRun>& runs, const ContextGeometry& geometry,
                     const ContextFingerprints& fingerprints, Json meta) {
    ContextSuperblock& s = plan_->superblock;
    s.page_tokens = geometry.page_tokens;
    s.page_bytes = geometry.page_bytes;
    s.slot_bytes = geometry.slot_bytes;
    s.mtp_page_bytes = geometry.mtp_page_bytes;
    s.hidden_bytes = geometry.hidden_bytes;
    s.tokens = static_cast<int64_t>(tokens.size());
    s.model = fingerprints.model.digest;
    s.tokenizer = fingerprints.tokenizer.digest;
    s.chat_template = fingerprints.chat_template.digest;
    s.numerics = fingerprints.numerics.digest;
    s.layout = Sha256(geometry.layout);
    chain_ = ChainTokens(s.model, s.numerics, s.page_tokens, tokens, runs);

    const Json about = {{"layout", geometry.layout},
                        {"labels",
                         {{"model", fingerprints.model.label},
                          {"tokenizer", fingerprints.tokenizer.label},
                          {"template", fingerprints.chat_template.label},
                          {"numerics", fingerprints.numerics.label}}}};
    const std::string about_text = DumpJson(about);
    meta["name"] = name;
    const std::string meta_text = DumpJson(meta);
    if (about_text.size() > kTextBytesMax || meta_text.size() > kTextBytesMax) {
      return Contradiction("its notes or its layout are longer than " +
                           HumanBytesBinary(kTextBytesMax));
    }
    AddOwned(RecordType::kAbout, Bytes(about_text), /*compress=*/false);
    std::vector<std::byte> ids(tokens.size_bytes() + chain_.size() * sizeof(ContextDigest));
    if (!tokens.empty()) {
      std::memcpy(ids.data(), tokens.data(), tokens.size_bytes());
      std::memcpy(ids.data() + tokens.size_bytes(), chain_.data(),
                  chain_.size() * sizeof(ContextDigest));
    }
    AddOwned(RecordType::kTokens, std::move(ids), /*compress=*/false);
    if (!runs.empty()) AddOwned(RecordType::kRuns, EncodeRuns(runs), /*compress=*/false);
    AddOwned(RecordType::kMeta, Bytes(meta_text), /*compress=*/true);
    return {};
  }

  uint32_t Rows(int64_t first_token, int64_t tokens) const {
    return static_cast<uint32_t>(std::min(plan_->superblock.page_tokens, tokens - first_token));
  }
  // In sealed files nothing outside the payloads tells of the tokens.
  uint64_t Chain(RecordType type, int64_t first_token) const {
    if (type != RecordType::kPage || plan_->superblock.is_sealed()) return 0;
    uint64_t first_bytes;
    std::memcpy(&first_bytes,
                chain_[static_cast<size_t>(first_token / plan_->superblock.page_tokens)].data(),
                sizeof(first_bytes));
    return first_bytes;
  }

  void Finish() {
    ContextPlan& plan = *plan_;
    const auto head = std::find_if(plan.items.begin(), plan.items.end(), [](const auto& item) {
      return item.type == RecordType::kPage || item.type == RecordType::kState ||
             item.type == RecordType::kHidden || item.type == RecordType::kMtpPage;
    });
    // A state after p tokens comes after the page that holds token p - 1; what costs only speed
    // last.
    const auto key = [](const ContextPlanItem& item) {
      const bool page = item.type == RecordType::kPage;
      return std::tuple(item.type == RecordType::kMtpPage,
                        page ? item.first_token + 1 : item.first_token, !page);
    };
    std::stable_sort(head, plan.items.end(),
                     [&](const auto& a, const auto& b) { return key(a) < key(b); });
    plan.superblock.records = static_cast<uint32_t>(plan.items.size());
    for (const ContextPlanItem& item : plan.items) {
      plan.counts.pages_written += item.type == RecordType::kPage ? 1 : 0;
      plan.counts.states_written += item.type == RecordType::kState ? 1 : 0;
    }
    plan.counts.delta = plan.superblock.is_delta();
  }

 private:
  ContextPlan* plan_;
  std::vector<ContextDigest> chain_;
};

void SetOptions(const ContextSaveOptions& options, ContextSuperblock* s) {
  if (options.zstd_level != 0) s->flags |= kContextZstd;
  if (options.sealer != nullptr) {
    s->flags |= kContextSealed;
    s->key_id = options.sealer->key_id();
  }
}

// What of an image a parent already has.
class Known {
 public:
  Known(const ContextFile* parent, const ContextImage& image)
      : parent_(parent),
        shared_(parent == nullptr
                    ? 0
                    : SharedTokens(parent->tokens(), parent->runs(), image.tokens, image.runs)) {}
  int64_t shared() const { return shared_; }
  // Rows up to token `end` of the page at `index`.
  bool Page(int64_t index, int64_t end) const { return end <= shared_ && parent_->HasPage(index); }
  bool MtpPage(int64_t index, int64_t end) const {
    return end < shared_ && end <= parent_->mtp_tokens() && parent_->HasMtpPage(index);
  }
  bool State(int64_t offset) const { return offset <= shared_ && parent_->HasState(offset); }
  bool Hidden(int64_t offset) const { return offset <= shared_ && parent_->HasHidden(offset); }

 private:
  const ContextFile* parent_;
  int64_t shared_;
};

}  // namespace

Result<ContextPlan> PlanImage(const std::string& name, const ContextImage& image,
                              const ContextFile* parent, const ContextSaveOptions& options) {
  LODE_TRY(CheckImage(image));
  ContextPlan plan;
  Planner planner(&plan);
  SetOptions(options, &plan.superblock);
  plan.superblock.tenant = image.tenant;
  plan.superblock.mtp_tokens = image.mtp_tokens;
  LODE_TRY(planner.Frame(name, image.tokens, image.runs, image.geometry, image.fingerprints,
                         image.meta));
  const Known known(parent, image);
  const int64_t tokens = plan.superblock.tokens;
  const int64_t page_tokens = plan.superblock.page_tokens;
  for (size_t i = 0; i < image.pages.size(); ++i) {
    const int64_t first = static_cast<int64_t>(i) * page_tokens;
    const uint32_t rows = planner.Rows(first, tokens);
    if (known.Page(static_cast<int64_t>(i), first + rows)) {
      ++plan.counts.pages_inherited;
    } else if (!image.pages[i].empty()) {
      planner.AddSpan(RecordType::kPage, first, rows, image.pages[i]);
    }
  }
  for (size_t i = 0; i < image.mtp_pages.size(); ++i) {
    const int64_t first = static_cast<int64_t>(i) * page_tokens;
    const uint32_t rows = planner.Rows(first, image.mtp_tokens);
    if (!known.MtpPage(static_cast<int64_t>(i), first + rows) && !image.mtp_pages[i].empty()) {
      planner.AddSpan(RecordType::kMtpPage, first, rows, image.mtp_pages[i]);
    }
  }
  for (const ContextSnapshot& snapshot : image.snapshots) {
    if (known.State(snapshot.offset)) {
      ++plan.counts.states_inherited;
    } else {
      planner.AddSpan(RecordType::kState, snapshot.offset, snapshot.tag, snapshot.state);
    }
    if (!snapshot.hidden.empty() && !known.Hidden(snapshot.offset)) {
      planner.AddSpan(RecordType::kHidden, snapshot.offset, 0, snapshot.hidden);
    }
  }
  if (plan.counts.pages_inherited + plan.counts.states_inherited > 0) {
    const ContextSuperblock& p = ContextOpener::Superblock(*parent);
    plan.superblock.flags |= kContextDelta;
    plan.superblock.parent = parent->digest();
    plan.superblock.parent_name = parent->name();
    plan.superblock.depth = p.depth + 1;
  }
  planner.Finish();
  return plan;
}

Result<ContextPlan> PlanFile(const std::string& name, const ContextFile& file,
                             const ContextSaveOptions& options) {
  ContextPlan plan;
  Planner planner(&plan);
  SetOptions(options, &plan.superblock);
  plan.superblock.tenant = ContextOpener::Superblock(file).tenant;
  plan.superblock.mtp_tokens = file.mtp_tokens();
  LODE_TRY(planner.Frame(name, file.tokens(), file.runs(), file.geometry(), file.fingerprints(),
                         file.meta()));
  const ContextSuperblock& s = plan.superblock;
  using View = Result<std::span<const std::byte>> (ContextFile::*)(int64_t) const;
  using Read = Result<void> (ContextFile::*)(int64_t, std::span<std::byte>) const;
  const auto add = [&](RecordType type, int64_t key, int64_t first, uint32_t rows, uint64_t bytes,
                       View view, Read read) {
    ContextPlanItem item{type, first, rows, planner.Chain(type, first), bytes, true, {}};
    item.payload = [&file, key, bytes, view,
                    read](std::vector<std::byte>* buffer) -> Result<std::span<const std::byte>> {
      Result<std::span<const std::byte>> mapped = (file.*view)(key);
      if (mapped.ok() || mapped.error().code() != Code::kUnsupported) return mapped;
      buffer->resize(bytes);
      LODE_TRY((file.*read)(key, *buffer));
      return std::span<const std::byte>(*buffer);
    };
    planner.Add(std::move(item));
  };
  for (int64_t i = 0; i < file.pages(); ++i) {
    const int64_t first = i * s.page_tokens;
    if (!file.HasPage(i)) continue;
    add(RecordType::kPage, i, first, planner.Rows(first, s.tokens), s.page_bytes,
        &ContextFile::Page, &ContextFile::ReadPage);
  }
  for (int64_t i = 0; i < file.mtp_pages(); ++i) {
    const int64_t first = i * s.page_tokens;
    if (!file.HasMtpPage(i)) continue;
    add(RecordType::kMtpPage, i, first, planner.Rows(first, s.mtp_tokens), s.mtp_page_bytes,
        &ContextFile::MtpPage, &ContextFile::ReadMtpPage);
  }
  for (const int64_t p : file.Points()) {
    add(RecordType::kState, p, p, file.Tag(p), s.slot_bytes, &ContextFile::State,
        &ContextFile::ReadState);
    if (!file.HasHidden(p)) continue;
    add(RecordType::kHidden, p, p, 0, s.hidden_bytes, &ContextFile::Hidden,
        &ContextFile::ReadHidden);
  }
  planner.Finish();
  return plan;
}

}  // namespace lode::runtime
