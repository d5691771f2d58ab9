#include "runtime/saved/context_file.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/file.h"
#include "base/text.h"
#include "runtime/saved/context_format.h"
#include "runtime/saved/context_open.h"
#include "runtime/saved/context_payload.h"
#include "runtime/saved/context_seal.h"

namespace lode::runtime {
namespace {

enum Verdict : uint8_t { kUnknown, kSound, kBad };

// Copied and hashed in pieces that stay in a core's cache between the two.
constexpr uint64_t kPieceBytes = uint64_t{128} << 10;

}  // namespace

Result<void> ContextMatch::Require(Use wanted) const {
  if (use <= wanted) return {};
  return Error(Code::kBadInput, sentence, hint);
}

ContextFile::ContextFile() = default;
ContextFile::~ContextFile() = default;

Result<std::unique_ptr<ContextFile>> ContextFile::OpenPath(const std::string& path,
                                                           const ContextOpenOptions& options) {
  // Named by a person: links are theirs to follow. A pipe must not make us wait.
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
  if (descriptor < 0) return SystemError("cannot open", path, errno);
  LODE_ASSIGN(auto source, ContextSource::FromDescriptor(nullptr, descriptor, path, options.map));
  return ContextOpener::Open(std::move(source), path, options, nullptr);
}

Result<std::unique_ptr<ContextFile>> ContextFile::FromMemory(std::span<const std::byte> bytes,
                                                             const std::string& name,
                                                             const ContextOpenOptions& options) {
  return ContextOpener::Open(ContextSource::FromMemory(bytes), name, options, nullptr);
}

int64_t ContextFile::created() const { return superblock_->created; }
uint64_t ContextFile::file_bytes() const { return source_->size(); }
ContextDigest ContextFile::digest() const { return digest_; }
bool ContextFile::sealed() const { return superblock_->is_sealed(); }
bool ContextFile::compressed() const { return (superblock_->flags & kContextZstd) != 0; }
bool ContextFile::is_delta() const { return superblock_->is_delta(); }
std::string ContextFile::parent_name() const { return superblock_->parent_name; }
int64_t ContextFile::mtp_tokens() const { return superblock_->mtp_tokens; }

int64_t ContextFile::pages() const { return geometry_.page_bytes == 0 ? 0 : superblock_->blocks(); }

int64_t ContextFile::mtp_pages() const {
  if (geometry_.mtp_page_bytes == 0) return 0;
  return (mtp_tokens() + geometry_.page_tokens - 1) / geometry_.page_tokens;
}

ContextMatch ContextFile::Match(const ContextGeometry& geometry,
                                const ContextFingerprints& fingerprints) const {
  ContextMatch match;
  std::vector<std::string>
      words;  // for people: with what they call it, and the digests' beginnings
  const auto compare = [&](const char* field, const ContextFingerprint& saved,
                           const ContextFingerprint& here) {
    if (saved.digest == here.digest) return false;
    const auto name = [](const ContextFingerprint& f) {
      const bool none = f.digest == ContextDigest{};
      const std::string digest = none ? "none" : DigestText(f.digest, 12);
      return f.label.empty() ? digest : Quote(f.label) + " " + digest;
    };
    match.differing.push_back(field);
    words.push_back(std::string("the ") + field + " (" + name(saved) + ", here " + name(here) +
                    ")");
    return true;
  };
  const auto differs = [&](const char* field, bool is_different) {
    if (!is_different) return false;
    match.differing.push_back(field);
    words.push_back(std::string("the ") + field);
    return true;
  };
  bool tokens_only = compare("model", fingerprints_.model, fingerprints.model);
  tokens_only |= differs("page_tokens", geometry_.page_tokens != geometry.page_tokens);
  tokens_only |= differs("page_bytes", geometry_.page_bytes != geometry.page_bytes);
  tokens_only |= differs("slot_bytes", geometry_.slot_bytes != geometry.slot_bytes);
  tokens_only |= differs("layout", superblock_->layout != Sha256(geometry.layout));
  const bool foreign = compare("numerics", fingerprints_.numerics, fingerprints.numerics);
  const bool other_text = compare("tokenizer", fingerprints_.tokenizer, fingerprints.tokenizer);
  const bool other_template =
      compare("template", fingerprints_.chat_template, fingerprints.chat_template);
  match.text_continues = !other_text && !other_template;
  if (tokens_only) {
    match.use = ContextMatch::Use::kTokensOnly;
  } else if (foreign) {
    match.use = ContextMatch::Use::kForeign;
  }
  if (words.empty()) return match;
  match.sentence =
      "saved context " + Quote(name_, 300) + " differs from what runs here in " + Join(words, ", ");
  if (tokens_only) {
    match.hint = "its " + WithThousands(tokens_.size()) +
                 " token ids can still be restored by computing them again";
  } else if (foreign) {
    match.hint =
        "it can be used, but will not give the bits that a cold run gives here; computing "
        "its ids again does";
  }
  if (!match.text_continues) {
    match.hint += std::string(match.hint.empty() ? "" : "; ") +
                  "it goes on token by token, but new text cannot be added to it";
  }
  return match;
}

const ContextRecord* ContextFile::FindOwn(RecordType type, int64_t first_token) const {
  const auto key = std::pair(type, static_cast<uint64_t>(first_token));
  const auto found =
      std::lower_bound(by_key_.begin(), by_key_.end(), key, [&](uint32_t i, const auto& wanted) {
        return std::pair(records_[i].type, records_[i].first_token) < wanted;
      });
  if (found == by_key_.end()) return nullptr;
  const ContextRecord& record = records_[*found];
  return std::pair(record.type, record.first_token) == key ? &record : nullptr;
}

bool ContextFile::Inherits(RecordType type, int64_t first_token) const {
  if (parent_ == nullptr || first_token < 0) return false;
  const int64_t page_end = first_token + geometry_.page_tokens;
  switch (type) {
    case RecordType::kPage:
      return first_token < superblock_->tokens &&
             std::min(page_end, superblock_->tokens) <= shared_tokens_;
    case RecordType::kMtpPage: {
      // A row of the head also depends on the token that follows it.
      const int64_t end = std::min(page_end, mtp_tokens());
      return first_token < mtp_tokens() && end < shared_tokens_ && end <= parent_->mtp_tokens();
    }
    case RecordType::kState:
    case RecordType::kHidden:
      return first_token <= shared_tokens_;
    default:
      return false;
  }
}

const ContextRecord* ContextFile::Find(RecordType type, int64_t first_token,
                                       const ContextFile** holder) const {
  const ContextRecord* const record = FindOwn(type, first_token);
  if (record != nullptr && verdicts_[static_cast<size_t>(record - records_.data())] != kBad) {
    *holder = this;
    return record;
  }
  return Inherits(type, first_token) ? parent_->Find(type, first_token, holder) : nullptr;
}

bool ContextFile::Has(RecordType type, int64_t first_token) const {
  const ContextFile* holder;
  return Find(type, first_token, &holder) != nullptr;
}

bool ContextFile::HasPage(int64_t i) const {
  return Has(RecordType::kPage, i * geometry_.page_tokens);
}
bool ContextFile::HasMtpPage(int64_t i) const {
  return Has(RecordType::kMtpPage, i * geometry_.page_tokens);
}
bool ContextFile::HasState(int64_t offset) const { return Has(RecordType::kState, offset); }
bool ContextFile::HasHidden(int64_t offset) const { return Has(RecordType::kHidden, offset); }

Error ContextFile::Absent(RecordType type, int64_t first_token) const {
  return Error(Code::kNotFound,
               "saved context " + Quote(name_, 300) + " does not have " +
                   RecordName(*superblock_, type, static_cast<uint64_t>(first_token)));
}

Result<std::span<const std::byte>> ContextFile::View(RecordType type, int64_t first_token) const {
  const ContextFile* holder = nullptr;
  const ContextRecord* const record = Find(type, first_token, &holder);
  if (record == nullptr) return Absent(type, first_token);
  if (!holder->source_->mapped() || record->codec != RecordCodec::kRaw || record->sealed) {
    return Error(Code::kUnsupported,
                 "saved context " + Quote(holder->name_, 300) +
                     " is compressed, sealed or not mapped: it can only be read",
                 "save it raw to map it");
  }
  LODE_TRY(holder->Verify(*record));
  std::vector<std::byte> none;
  return holder->source_->Fetch(record->payload_offset, record->stored_bytes, &none);
}

Result<void> ContextFile::Read(RecordType type, int64_t first_token,
                               std::span<std::byte> target) const {
  const ContextFile* holder = nullptr;
  const ContextRecord* const record = Find(type, first_token, &holder);
  if (record == nullptr) return Absent(type, first_token);
  if (record->raw_bytes != target.size()) {
    return Error(Code::kBadInput, RecordName(*superblock_, type, record->first_token) +
                                      " of saved context " + Quote(holder->name_, 300) + " has " +
                                      WithThousands(record->raw_bytes) + " bytes, not " +
                                      WithThousands(target.size()));
  }
  return holder->Decode(*record, target);
}

Result<std::span<const std::byte>> ContextFile::Page(int64_t i) const {
  return View(RecordType::kPage, i * geometry_.page_tokens);
}
Result<std::span<const std::byte>> ContextFile::MtpPage(int64_t i) const {
  return View(RecordType::kMtpPage, i * geometry_.page_tokens);
}
Result<std::span<const std::byte>> ContextFile::State(int64_t offset) const {
  return View(RecordType::kState, offset);
}
Result<std::span<const std::byte>> ContextFile::Hidden(int64_t offset) const {
  return View(RecordType::kHidden, offset);
}
Result<void> ContextFile::ReadPage(int64_t i, std::span<std::byte> target) const {
  return Read(RecordType::kPage, i * geometry_.page_tokens, target);
}
Result<void> ContextFile::ReadMtpPage(int64_t i, std::span<std::byte> target) const {
  return Read(RecordType::kMtpPage, i * geometry_.page_tokens, target);
}
Result<void> ContextFile::ReadState(int64_t offset, std::span<std::byte> target) const {
  return Read(RecordType::kState, offset, target);
}
Result<void> ContextFile::ReadHidden(int64_t offset, std::span<std::byte> target) const {
  return Read(RecordType::kHidden, offset, target);
}

uint32_t ContextFile::Tag(int64_t offset) const {
  const ContextFile* holder;
  const ContextRecord* const record = Find(RecordType::kState, offset, &holder);
  return record == nullptr ? 0 : record->rows;
}

Result<void> ContextFile::CopyRaw(const ContextRecord& record, std::span<std::byte> target) const {
  PayloadHash hash;
  for (uint64_t at = 0; at < record.stored_bytes; at += kPieceBytes) {
    const std::span<std::byte> piece =
        target.subspan(at, std::min(kPieceBytes, record.stored_bytes - at));
    LODE_TRY(source_->Copy(record.payload_offset + at, piece));
    hash.Add(piece);
  }
  if (hash.Finish() != record.hash) return Error(Code::kBadInput, "its checksum is wrong");
  return {};
}

Result<void> ContextFile::Decode(const ContextRecord& record, std::span<std::byte> target) const {
  LODE_CHECK(target.size() == record.raw_bytes);
  std::atomic<uint8_t>& verdict = verdicts_[static_cast<size_t>(&record - records_.data())];
  if (verdict == kBad) return Error(Code::kBadInput, "it is damaged");
  const auto decode = [&]() -> Result<void> {
    if (record.codec == RecordCodec::kRaw && !record.sealed) return CopyRaw(record, target);
    LODE_TRY(source_->Populate(record.payload_offset, record.stored_bytes));
    std::vector<std::byte> buffer;
    LODE_ASSIGN(const std::span<const std::byte> stored,
                source_->Fetch(record.payload_offset, record.stored_bytes, &buffer));
    return DecodePayload({superblock_->salt, facts_, sealer_}, record, stored, target);
  };
  if (Result<void> decoded = decode(); !decoded.ok()) {
    return Damaged(record, decoded.error().message());
  }
  verdict = kSound;
  return {};
}

Result<void> ContextFile::Verify(const ContextRecord& record) const {
  std::atomic<uint8_t>& verdict = verdicts_[static_cast<size_t>(&record - records_.data())];
  if (verdict == kSound) return {};
  if (verdict == kBad) return Error(Code::kBadInput, "it is damaged");
  const auto check = [&]() -> Result<void> {
    LODE_TRY(source_->Populate(record.payload_offset, record.stored_bytes));
    std::vector<std::byte> buffer;
    LODE_ASSIGN(const std::span<const std::byte> stored,
                source_->Fetch(record.payload_offset, record.stored_bytes, &buffer));
    return CheckPayload({superblock_->salt, facts_, sealer_}, record, stored);
  };
  if (Result<void> checked = check(); !checked.ok()) {
    return Damaged(record, checked.error().message());
  }
  verdict = kSound;
  return {};
}

Error ContextFile::Damaged(const ContextRecord& record, const std::string& reason) const {
  const std::string what = RecordName(*superblock_, record.type, record.first_token);
  std::atomic<uint8_t>& verdict = verdicts_[static_cast<size_t>(&record - records_.data())];
  if (verdict.exchange(kBad) != kBad) NoteDamage(what, reason);
  return Error(Code::kBadInput,
               "saved context " + Quote(name_, 300) + ": " + what + " is damaged: " + reason,
               "an earlier point of it may still be sound, and its token ids are");
}

void ContextFile::NoteDamage(const std::string& what, const std::string& reason) const {
  const std::lock_guard lock(damage_mutex_);
  for (const ContextDamage& known : damage_) {
    if (known.what == what && known.reason == reason) return;
  }
  damage_.push_back({name_, what, reason});
}

std::vector<ContextDamage> ContextFile::damage() const {
  std::vector<ContextDamage> all;
  {
    const std::lock_guard lock(damage_mutex_);
    all = damage_;
  }
  if (parent_ != nullptr) {
    const std::vector<ContextDamage> more = parent_->damage();
    all.insert(all.end(), more.begin(), more.end());
  }
  return all;
}

void ContextFile::CollectStates(int64_t limit, std::vector<int64_t>* offsets) const {
  for (const uint32_t i : by_key_) {
    const ContextRecord& record = records_[i];
    if (record.type != RecordType::kState || verdicts_[i] == kBad) continue;
    const int64_t offset = static_cast<int64_t>(record.first_token);
    if (offset <= limit) offsets->push_back(offset);
  }
  if (parent_ != nullptr) parent_->CollectStates(std::min(limit, shared_tokens_), offsets);
}

std::vector<int64_t> ContextFile::Points() const {
  std::vector<int64_t> offsets;
  CollectStates(superblock_->tokens, &offsets);
  std::sort(offsets.begin(), offsets.end());
  offsets.erase(std::unique(offsets.begin(), offsets.end()), offsets.end());
  int64_t leading = 0;  // pages without a gap
  while (leading < pages() && HasPage(leading)) ++leading;
  if (leading < pages()) {
    std::erase_if(offsets, [&](int64_t p) { return p > leading * geometry_.page_tokens; });
  }
  return offsets;
}

// Sound pages at the beginning, of the first `count`.
int64_t ContextFile::LeadingPages(int64_t count) const {
  for (int64_t i = 0; i < count; ++i) {
    const ContextFile* holder = nullptr;
    const ContextRecord* const record = Find(RecordType::kPage, i * geometry_.page_tokens, &holder);
    if (record == nullptr || !holder->Verify(*record).ok()) return i;
  }
  return count;
}

int64_t ContextFile::DeepestSound(int64_t offset_max) const {
  std::vector<int64_t> points = Points();
  if (offset_max >= 0) std::erase_if(points, [&](int64_t p) { return p > offset_max; });
  while (!points.empty()) {
    const int64_t point = points.back();
    const ContextFile* holder = nullptr;
    const ContextRecord* const state = Find(RecordType::kState, point, &holder);
    if (state == nullptr || !holder->Verify(*state).ok()) {
      points.pop_back();
      continue;
    }
    if (pages() == 0) return point;
    const int64_t needed = (point + geometry_.page_tokens - 1) / geometry_.page_tokens;
    const int64_t sound = LeadingPages(needed);
    if (sound == needed) return point;
    std::erase_if(points, [&](int64_t p) { return p > sound * geometry_.page_tokens; });
  }
  return 0;
}

// What a reader with a footer never looks at: both heads, and the headers in front of the payloads.
void ContextFile::VerifyFrame() const {
  std::vector<std::byte> buffer;
  const auto head = source_->Fetch(0, kSuperblockBytes, &buffer);
  if (!head.ok() || !std::equal(facts_.begin(), facts_.end(), head->begin()) ||
      !std::equal(facts_.begin(), facts_.end(), head->end() - kFactsBytes)) {
    NoteDamage("the head", "one of its two copies is damaged");
  }
  uint64_t end = kSuperblockBytes;
  for (size_t i = 0; i < records_.size(); ++i) {
    const auto header = source_->Fetch(HeaderOffset(end), kHeaderBytes, &buffer);
    end = records_[i].end();
    if (!header.ok() || !std::equal(header->begin(), header->end(),
                                    index_.begin() + static_cast<ptrdiff_t>(i * kHeaderBytes))) {
      NoteDamage(
          "the header of " + RecordName(*superblock_, records_[i].type, records_[i].first_token),
          "it is not the one that the footer has");
    }
  }
}

Result<void> ContextFile::VerifyAll(const std::atomic<bool>* stop) const {
  VerifyFrame();
  for (const ContextRecord& record : records_) {
    if (stop != nullptr && *stop) return Error(Code::kCancelled, "stopped");
    (void)Verify(record);  // what is bad is written down
  }
  return parent_ == nullptr ? Result<void>() : parent_->VerifyAll(stop);
}

}  // namespace lode::runtime
