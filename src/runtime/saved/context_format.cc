#include "runtime/saved/context_format.h"

#include <openssl/evp.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

#include "base/check.h"
#include "base/text.h"

namespace lode::runtime {
namespace {

static_assert(std::endian::native == std::endian::little, "fields are copied as they are");

constexpr char kMagic[8] = {'L', 'O', 'D', 'E', 'C', 'T', 'X', '\0'};
constexpr char kEndMagic[8] = {'L', 'O', 'D', 'E', 'E', 'N', 'D', '\0'};
constexpr size_t kRunBytes = 48;

// Fields one after the other.
class Put {
 public:
  explicit Put(std::byte* at) : at_(at) {}
  template <typename T>
  Put& operator<<(const T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    std::memcpy(at_, &value, sizeof(T));
    at_ += sizeof(T);
    return *this;
  }
  Put& Skip(size_t bytes) {
    at_ += bytes;
    return *this;
  }

 private:
  std::byte* at_;
};

class Get {
 public:
  explicit Get(const std::byte* at) : at_(at) {}
  template <typename T>
  Get& operator>>(T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    std::memcpy(&value, at_, sizeof(T));
    at_ += sizeof(T);
    return *this;
  }
  Get& Skip(size_t bytes) {
    at_ += bytes;
    return *this;
  }

 private:
  const std::byte* at_;
};

uint64_t Seed(const ContextSalt& salt) {
  uint64_t seed;
  std::memcpy(&seed, salt.data(), sizeof(seed));
  return seed;
}

uint64_t Align(uint64_t value, uint64_t to) { return (value + to - 1) / to * to; }

// Facts up to the checksum, and where the parent's name stands in them.
constexpr size_t kFactsChecksum = kFactsBytes - 8;
constexpr size_t kHeaderChecksum = 12;

bool FactsAreSound(std::span<const std::byte> facts) {
  uint64_t checksum;
  std::memcpy(&checksum, facts.data() + kFactsChecksum, sizeof(checksum));
  return std::memcmp(facts.data(), kMagic, sizeof(kMagic)) == 0 &&
         checksum == XXH3_64bits(facts.data(), kFactsChecksum);
}

uint32_t HeaderChecksum(const std::byte* header, const ContextSalt& salt) {
  std::array<std::byte, kHeaderBytes> bytes;
  std::memcpy(bytes.data(), header, kHeaderBytes);
  std::memset(bytes.data() + kHeaderChecksum, 0, sizeof(uint32_t));
  return static_cast<uint32_t>(XXH3_64bits_withSeed(bytes.data(), kHeaderBytes, Seed(salt)));
}

uint64_t TailChecksum(const std::byte* tail, const ContextSalt& salt,
                      std::span<const std::byte> index) {
  XXH3_state_t* const state = XXH3_createState();
  LODE_CHECK(state != nullptr);
  XXH3_64bits_reset_withSeed(state, Seed(salt));
  XXH3_64bits_update(state, index.data(), index.size());
  XXH3_64bits_update(state, tail, kTailBytes - 16);
  const uint64_t checksum = XXH3_64bits_digest(state);
  XXH3_freeState(state);
  return checksum;
}

Result<void> CheckFacts(const ContextSuperblock& s, uint32_t align, uint32_t superblock_bytes) {
  const auto wrong = [](const char* what) {
    return Error(Code::kBadInput, std::string("its head is impossible: ") + what);
  };
  if (align != kPayloadAlign || superblock_bytes != kSuperblockBytes) return wrong("alignments");
  if (s.page_tokens < 1 || s.page_tokens > kPageTokensMax) return wrong("tokens of a page");
  if (s.tokens < 0 || s.tokens > kTokensMax) return wrong("the number of tokens");
  if (s.mtp_tokens < 0 || s.mtp_tokens > s.tokens) return wrong("the number of MTP rows");
  for (const uint64_t bytes : {s.page_bytes, s.slot_bytes, s.mtp_page_bytes, s.hidden_bytes}) {
    if (bytes > kImageBytesMax) return wrong("bytes of a page or state");
  }
  if (s.depth > kDepthMax || s.is_delta() != (s.depth > 0)) return wrong("the depth of deltas");
  if (s.records > std::numeric_limits<uint32_t>::max() / 2) return wrong("the number of records");
  return {};
}

}  // namespace

FactsBytes EncodeFacts(const ContextSuperblock& s) {
  FactsBytes facts{};
  LODE_CHECK(s.parent_name.size() <= kParentNameMax);
  std::array<char, kParentNameMax> name{};
  std::copy(s.parent_name.begin(), s.parent_name.end(), name.begin());
  Put put(facts.data());
  put << kMagic << s.major << s.minor << s.flags << static_cast<uint32_t>(kSuperblockBytes)
      << static_cast<uint32_t>(kPayloadAlign) << static_cast<uint32_t>(s.page_tokens) << s.depth
      << s.page_bytes << s.slot_bytes << s.mtp_page_bytes << s.hidden_bytes << s.tokens
      << s.mtp_tokens << s.created << s.salt << s.tenant << s.model << s.tokenizer
      << s.chat_template << s.numerics << s.layout << s.key_id << s.parent << name << s.records;
  const uint64_t checksum = XXH3_64bits(facts.data(), kFactsChecksum);
  std::memcpy(facts.data() + kFactsChecksum, &checksum, sizeof(checksum));
  return facts;
}

std::vector<std::byte> EncodeSuperblock(const ContextSuperblock& superblock) {
  const FactsBytes facts = EncodeFacts(superblock);
  std::vector<std::byte> bytes(kSuperblockBytes);
  std::copy(facts.begin(), facts.end(), bytes.begin());
  std::copy(facts.begin(), facts.end(), bytes.end() - kFactsBytes);
  return bytes;
}

Result<ContextSuperblock> DecodeSuperblock(std::span<const std::byte> bytes, FactsBytes* kept) {
  if (bytes.size() < kSuperblockBytes) {
    return Error(Code::kBadInput, "it is too short for a saved context");
  }
  std::span<const std::byte> facts = bytes.first(kFactsBytes);
  const std::span<const std::byte> copy =
      bytes.subspan(kSuperblockBytes - kFactsBytes, kFactsBytes);
  if (!FactsAreSound(facts)) {
    const bool named = std::memcmp(facts.data(), kMagic, sizeof(kMagic)) == 0 ||
                       std::memcmp(copy.data(), kMagic, sizeof(kMagic)) == 0;
    if (!named) return Error(Code::kBadInput, "it is no saved context");
    facts = copy;
    if (!FactsAreSound(facts)) {
      return Error(Code::kBadInput, "its head is damaged, and so is the head's copy",
                   "nothing can be restored from it; remove it");
    }
  }
  ContextSuperblock s;
  uint32_t superblock_bytes, align, page_tokens;
  std::array<char, kParentNameMax> name;
  Get get(facts.data() + sizeof(kMagic));
  get >> s.major >> s.minor;
  if (s.major > kContextMajor) {
    return Error(
        Code::kUnsupported,
        Format("it is written in version %u.%u of the format, and this program reads up to %u",
               unsigned{s.major}, unsigned{s.minor}, unsigned{kContextMajor}),
        "open it with a newer version of Lode");
  }
  get >> s.flags >> superblock_bytes >> align >> page_tokens >> s.depth >> s.page_bytes >>
      s.slot_bytes >> s.mtp_page_bytes >> s.hidden_bytes >> s.tokens >> s.mtp_tokens >> s.created >>
      s.salt >> s.tenant >> s.model >> s.tokenizer >> s.chat_template >> s.numerics >> s.layout >>
      s.key_id >> s.parent >> name >> s.records;
  s.page_tokens = page_tokens;
  s.parent_name.assign(name.data(), ::strnlen(name.data(), name.size()));
  LODE_TRY(CheckFacts(s, align, superblock_bytes));
  if (kept != nullptr) std::copy(facts.begin(), facts.end(), kept->begin());
  return s;
}

HeaderBytes EncodeHeader(const ContextRecord& r, const ContextSalt& salt) {
  HeaderBytes header{};
  Put(header.data()) << r.type << r.codec << static_cast<uint8_t>(r.sealed) << r.planes
                     << r.sequence << r.rows << uint32_t{0} << r.raw_bytes << r.stored_bytes
                     << r.first_token << r.chain << r.hash;
  const uint32_t checksum = HeaderChecksum(header.data(), salt);
  std::memcpy(header.data() + kHeaderChecksum, &checksum, sizeof(checksum));
  return header;
}

bool DecodeHeader(std::span<const std::byte> bytes, const ContextSalt& salt, ContextRecord* r) {
  LODE_CHECK(bytes.size() >= kHeaderBytes);
  uint8_t flags;
  uint32_t checksum;
  Get(bytes.data()) >> r->type >> r->codec >> flags >> r->planes >> r->sequence >> r->rows >>
      checksum >> r->raw_bytes >> r->stored_bytes >> r->first_token >> r->chain >> r->hash;
  r->sealed = (flags & 1) != 0;
  return checksum == HeaderChecksum(bytes.data(), salt);
}

uint64_t HeaderOffset(uint64_t end) { return Align(end, kHeaderBytes); }

uint64_t PayloadOffset(uint64_t end, const ContextRecord& record) {
  const bool large = record.type == RecordType::kState && record.codec == RecordCodec::kRaw &&
                     !record.sealed && record.stored_bytes >= kStateAlign;
  return Align(HeaderOffset(end) + kHeaderBytes, large ? kStateAlign : kPayloadAlign);
}

bool IsKnown(RecordType type) { return type >= RecordType::kAbout && type <= RecordType::kHidden; }

std::string RecordName(const ContextSuperblock& s, RecordType type, uint64_t first_token) {
  const auto page = [&] {
    return std::to_string(first_token / static_cast<uint64_t>(s.page_tokens));
  };
  switch (type) {
    case RecordType::kAbout:
      return "the description of the layout";
    case RecordType::kTokens:
      return "the token ids";
    case RecordType::kRuns:
      return "the list of runs";
    case RecordType::kMeta:
      return "the notes (META)";
    case RecordType::kPage:
      return "page " + page();
    case RecordType::kMtpPage:
      return "MTP page " + page();
    case RecordType::kState:
      return "the state after " + WithThousands(first_token) + " tokens";
    case RecordType::kHidden:
      return "the hidden row after " + WithThousands(first_token) + " tokens";
  }
  return Format("a record of unknown type %d", static_cast<int>(type));
}

namespace {

// What the geometry says about first_token, rows and raw_bytes.
const char* CheckMeaning(const ContextSuperblock& s, const ContextRecord& r) {
  const uint64_t tokens = static_cast<uint64_t>(s.tokens);
  const uint64_t page_tokens = static_cast<uint64_t>(s.page_tokens);
  switch (r.type) {
    case RecordType::kPage:
    case RecordType::kMtpPage: {
      const bool mtp = r.type == RecordType::kMtpPage;
      const uint64_t covered = mtp ? static_cast<uint64_t>(s.mtp_tokens) : tokens;
      const uint64_t bytes = mtp ? s.mtp_page_bytes : s.page_bytes;
      if (r.raw_bytes != bytes || bytes == 0) return "it is not as long as a page";
      if (r.first_token % page_tokens != 0) return "it does not begin at a page";
      if (r.first_token >= covered) return "it lies behind the last token";
      if (r.rows != std::min(page_tokens, covered - r.first_token))
        return "its rows are miscounted";
      return nullptr;
    }
    case RecordType::kState:
    case RecordType::kHidden:
      if (r.first_token < 1 || r.first_token > tokens) return "its offset is not in the context";
      if (r.type == RecordType::kState && r.raw_bytes != s.slot_bytes) {
        return "it is not as long as a state";
      }
      if (r.type == RecordType::kHidden && (r.raw_bytes != s.hidden_bytes || r.raw_bytes == 0)) {
        return "it is not as long as a hidden row";
      }
      return nullptr;
    case RecordType::kTokens:
      if (r.codec != RecordCodec::kRaw) return "token ids are never compressed";
      if (r.raw_bytes !=
          tokens * sizeof(uint32_t) + static_cast<uint64_t>(s.blocks()) * sizeof(ContextDigest)) {
        return "it does not hold as many ids as the head says";
      }
      return nullptr;
    case RecordType::kRuns:
      if (r.codec != RecordCodec::kRaw || r.raw_bytes % kRunBytes != 0) return "no list of runs";
      return nullptr;
    default:
      if (r.raw_bytes > kTextBytesMax) return "it is too long";
      return nullptr;
  }
}

}  // namespace

const char* CheckRecord(const ContextSuperblock& s, const ContextRecord& r, uint64_t extra,
                        uint64_t file_bytes) {
  if (r.payload_offset > file_bytes || r.stored_bytes > file_bytes - r.payload_offset) {
    return "it ends behind the file";
  }
  if (!IsKnown(r.type)) return nullptr;
  if (r.sealed != s.is_sealed()) return "it is not sealed as the file is";
  if (r.stored_bytes < extra) return "it is too short to be sealed";
  if (r.codec == RecordCodec::kRaw) {
    if (r.stored_bytes - extra != r.raw_bytes) return "its two lengths disagree";
  } else if (r.codec == RecordCodec::kZstd) {
    if (r.stored_bytes - extra >= r.raw_bytes) return "its two lengths disagree";
    // A block of zstd, at least 3 bytes, never holds more than 128 KiB.
    if (r.raw_bytes >> 16 > r.stored_bytes) return "its two lengths disagree";
    if (r.planes != 1 && r.planes != 2 && r.planes != 4) return "its planes are unknown";
  } else {
    return "its compression is unknown";
  }
  return CheckMeaning(s, r);
}

std::vector<std::byte> SealedHeader(const FactsBytes& facts, const ContextRecord& record) {
  ContextRecord plain = record;
  plain.hash = {};
  HeaderBytes header = EncodeHeader(plain, ContextSalt{});
  std::memset(header.data() + kHeaderChecksum, 0, sizeof(uint32_t));
  std::vector<std::byte> bytes(facts.begin(), facts.end());
  bytes.insert(bytes.end(), header.begin(), header.end());
  return bytes;
}

ContextDigest FileDigest(const FactsBytes& facts, std::span<const std::byte> index) {
  std::vector<std::byte> bytes(facts.begin(), facts.end());
  bytes.insert(bytes.end(), index.begin(), index.end());
  return Sha256(bytes);
}

std::array<std::byte, kTailBytes> EncodeTail(const ContextTail& tail, const ContextSalt& salt,
                                             std::span<const std::byte> index) {
  std::array<std::byte, kTailBytes> bytes{};
  Put(bytes.data()) << tail.index_offset << tail.records << uint32_t{0} << tail.file_bytes
                    << tail.digest << tail.nonce << tail.tag;
  Put(bytes.data() + kTailBytes - 16) << TailChecksum(bytes.data(), salt, index) << kEndMagic;
  return bytes;
}

bool DecodeTail(std::span<const std::byte> bytes, uint64_t file_bytes, ContextTail* tail) {
  LODE_CHECK(bytes.size() == kTailBytes);
  if (std::memcmp(bytes.data() + kTailBytes - sizeof(kEndMagic), kEndMagic, sizeof(kEndMagic)) !=
      0) {
    return false;
  }
  uint32_t reserved;
  Get(bytes.data()) >> tail->index_offset >> tail->records >> reserved >> tail->file_bytes >>
      tail->digest >> tail->nonce >> tail->tag;
  return tail->file_bytes == file_bytes && tail->index_offset >= kSuperblockBytes &&
         tail->index_offset <= file_bytes - kTailBytes &&
         file_bytes - kTailBytes - tail->index_offset == tail->records * kHeaderBytes;
}

bool CheckTail(std::span<const std::byte> bytes, const ContextSalt& salt,
               std::span<const std::byte> index) {
  LODE_CHECK(bytes.size() == kTailBytes);
  uint64_t checksum;
  std::memcpy(&checksum, bytes.data() + kTailBytes - 16, sizeof(checksum));
  return checksum == TailChecksum(bytes.data(), salt, index);
}

PayloadHash::PayloadHash() : state_(XXH3_createState()) {
  LODE_CHECK(state_ != nullptr);
  XXH3_128bits_reset(static_cast<XXH3_state_t*>(state_));
}
PayloadHash::~PayloadHash() { XXH3_freeState(static_cast<XXH3_state_t*>(state_)); }
void PayloadHash::Add(std::span<const std::byte> bytes) {
  XXH3_128bits_update(static_cast<XXH3_state_t*>(state_), bytes.data(), bytes.size());
}
std::array<uint64_t, 2> PayloadHash::Finish() const {
  const XXH128_hash_t hash = XXH3_128bits_digest(static_cast<const XXH3_state_t*>(state_));
  return {hash.low64, hash.high64};
}

std::array<uint64_t, 2> HashPayload(std::span<const std::byte> bytes) {
  const XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  return {hash.low64, hash.high64};
}

std::vector<std::byte> EncodeRuns(std::span<const ContextRun> runs) {
  std::vector<std::byte> bytes(runs.size() * kRunBytes);
  for (size_t i = 0; i < runs.size(); ++i) {
    Put(bytes.data() + i * kRunBytes) << static_cast<uint64_t>(runs[i].first) << runs[i].kind
                                      << std::array<uint8_t, 7>{} << runs[i].adapter;
  }
  return bytes;
}

bool DecodeRuns(std::span<const std::byte> bytes, int64_t tokens, std::vector<ContextRun>* runs) {
  runs->clear();
  if (bytes.size() % kRunBytes != 0) return false;
  for (size_t at = 0; at < bytes.size(); at += kRunBytes) {
    uint64_t first;
    uint8_t kind;
    ContextRun run;
    Get(bytes.data() + at).operator>>(first).operator>>(kind).Skip(7) >> run.adapter;
    const uint64_t floor = runs->empty() ? 0 : static_cast<uint64_t>(runs->back().first) + 1;
    if (first < floor || first >= static_cast<uint64_t>(tokens) || kind > 1) return false;
    if (runs->empty() && first != 0) return false;
    run.first = static_cast<int64_t>(first);
    run.kind = static_cast<ContextRun::Kind>(kind);
    runs->push_back(run);
  }
  return true;
}

}  // namespace lode::runtime
