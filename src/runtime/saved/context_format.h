// The bytes of a saved context, version 1.0, little-endian: where they stand, checked in both
// directions. Nothing here touches a disk.
//
//   superblock  4 KiB: 512 bytes of facts, zeros, the same 512 bytes again at the end
//   records     each a 64-byte header at the next multiple of 64, its payload at the next multiple
//               of 4 KiB (large raw states: 2 MiB). Offsets follow from the lengths, so none is
//               stored: records cannot overlap, and a file without its footer is a readable prefix
//   footer      the headers again, side by side, then 128 bytes of tail
//
// Checksums are XXH3, those of headers and tail seeded with the file's salt: a record moved from
// another file does not pass. They find accidents; enemies are what sealing is for.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "runtime/saved/context_chain.h"
#include "runtime/saved/context_seal.h"

namespace lode::runtime {

constexpr uint16_t kContextMajor = 1;
constexpr uint16_t kContextMinor = 0;

constexpr uint64_t kSuperblockBytes = 4096;
constexpr uint64_t kFactsBytes = 512;
constexpr uint64_t kHeaderBytes = 64;
constexpr uint64_t kTailBytes = 128;
constexpr uint64_t kPayloadAlign = 4096;
constexpr uint64_t kStateAlign = uint64_t{2} << 20;  // of raw states at least this long
constexpr uint32_t kDepthMax = 256;                  // deltas of deltas
constexpr size_t kParentNameMax = 120;
// Guards against lying lengths, far above what a model needs.
constexpr int64_t kTokensMax = int64_t{1} << 31;
constexpr int64_t kPageTokensMax = 1 << 16;
constexpr uint64_t kTextBytesMax = uint64_t{16} << 20;  // META, ABOUT
constexpr uint64_t kImageBytesMax = uint64_t{1} << 40;  // a page, a slot

enum ContextFlags : uint32_t { kContextDelta = 1, kContextZstd = 2, kContextSealed = 4 };

enum class RecordType : uint8_t {
  kAbout = 1,    // JSON: layout, labels of the fingerprints
  kTokens = 2,   // u32 ids, then the chain
  kRuns = 3,     // {u64 first, u8 kind, 7 zeros, adapter}; absent: one run of prefill
  kMeta = 4,     // JSON of the owner
  kPage = 5,     // first token, rows
  kMtpPage = 6,  // first token, rows
  kState = 7,    // offset; rows: the tag
  kHidden = 8,   // offset
};

enum class RecordCodec : uint8_t { kRaw = 0, kZstd = 1 };

struct ContextSuperblock {
  uint16_t major = kContextMajor;
  uint16_t minor = kContextMinor;
  uint32_t flags = 0;
  int64_t page_tokens = 0;
  uint64_t page_bytes = 0, slot_bytes = 0, mtp_page_bytes = 0, hidden_bytes = 0;
  int64_t tokens = 0;
  int64_t mtp_tokens = 0;
  int64_t created = 0;
  ContextSalt salt{};
  ContextDigest tenant{}, model{}, tokenizer{}, chat_template{}, numerics{}, layout{};
  ContextDigest key_id{};  // sealed
  ContextDigest parent{};  // delta: digest of its file
  uint32_t depth = 0;      // how many files stand behind it: a parent has less than its delta
  uint32_t records = 0;    // that a whole file has
  std::string parent_name;

  bool is_delta() const { return (flags & kContextDelta) != 0; }
  bool is_sealed() const { return (flags & kContextSealed) != 0; }
  int64_t blocks() const { return (tokens + page_tokens - 1) / page_tokens; }
  bool operator==(const ContextSuperblock&) const = default;
};

struct ContextRecord {
  RecordType type = RecordType::kAbout;
  RecordCodec codec = RecordCodec::kRaw;
  uint8_t planes = 1;  // element width that zstd's input was split by
  bool sealed = false;
  uint32_t sequence = 0;
  uint32_t rows = 0;
  uint64_t raw_bytes = 0;
  uint64_t stored_bytes = 0;
  uint64_t first_token = 0;
  uint64_t chain = 0;              // first 8 bytes of the block's digest; pages of unsealed files
  std::array<uint64_t, 2> hash{};  // XXH3-128 of the stored payload: low, high
  uint64_t payload_offset = 0;     // follows from the records before
  uint64_t end() const { return payload_offset + stored_bytes; }
};

struct ContextTail {
  uint64_t index_offset = 0;
  uint32_t records = 0;
  uint64_t file_bytes = 0;
  ContextDigest digest{};
  ContextNonce nonce{};             // sealed: of the tag
  std::array<std::byte, 32> tag{};  // sealed: over facts and index
};

using FactsBytes = std::array<std::byte, kFactsBytes>;
using HeaderBytes = std::array<std::byte, kHeaderBytes>;

FactsBytes EncodeFacts(const ContextSuperblock& superblock);
// The whole 4 KiB.
std::vector<std::byte> EncodeSuperblock(const ContextSuperblock& superblock);
// Takes the copy that is sound. Errors: kBadInput when there is none, when it is no such file, or
// when its numbers are outside all reason; kUnsupported for a newer major version. `facts`, unless
// null, gets that copy's bytes.
Result<ContextSuperblock> DecodeSuperblock(std::span<const std::byte> bytes,
                                           FactsBytes* facts = nullptr);

HeaderBytes EncodeHeader(const ContextRecord& record, const ContextSalt& salt);
// False when the checksum is wrong. payload_offset is left alone.
bool DecodeHeader(std::span<const std::byte> bytes, const ContextSalt& salt, ContextRecord* record);

// Header, then payload, of the record that follows one that ends at `end`; `end` of the superblock:
// kSuperblockBytes. Cannot overflow for records that CheckRecord accepts.
uint64_t HeaderOffset(uint64_t end);
uint64_t PayloadOffset(uint64_t end, const ContextRecord& record);

// Whether the record's lengths fit the geometry, and its payload a file of `file_bytes`. `extra`:
// bytes by which sealing makes a payload longer (nonce and tag), 0 in plain files. Returns what is
// wrong, or nullptr. A record of unknown type is only compared with the file.
const char* CheckRecord(const ContextSuperblock& superblock, const ContextRecord& record,
                        uint64_t extra, uint64_t file_bytes);
bool IsKnown(RecordType type);
// "page 17", "the state after 4,096 tokens", "the token ids": for a person.
std::string RecordName(const ContextSuperblock& superblock, RecordType type, uint64_t first_token);

// What is authenticated beside a sealed payload: the facts, then the header without what depends on
// the sealed bytes.
std::vector<std::byte> SealedHeader(const FactsBytes& facts, const ContextRecord& record);

// SHA-256 over facts and index: the file's name for itself (the headers hold the payloads' hashes).
ContextDigest FileDigest(const FactsBytes& facts, std::span<const std::byte> index);
// The tail, whose checksum covers the index too.
std::array<std::byte, kTailBytes> EncodeTail(const ContextTail& tail, const ContextSalt& salt,
                                             std::span<const std::byte> index);
// The numbers alone, checked against the file's length; then, with the index at hand, the checksum.
bool DecodeTail(std::span<const std::byte> bytes, uint64_t file_bytes, ContextTail* tail);
bool CheckTail(std::span<const std::byte> bytes, const ContextSalt& salt,
               std::span<const std::byte> index);

// XXH3-128 of bytes that come in pieces.
class PayloadHash {
 public:
  PayloadHash();
  ~PayloadHash();
  PayloadHash(const PayloadHash&) = delete;
  PayloadHash& operator=(const PayloadHash&) = delete;
  void Add(std::span<const std::byte> bytes);
  std::array<uint64_t, 2> Finish() const;

 private:
  void* state_;
};
std::array<uint64_t, 2> HashPayload(std::span<const std::byte> bytes);

std::vector<std::byte> EncodeRuns(std::span<const ContextRun> runs);
bool DecodeRuns(std::span<const std::byte> bytes, int64_t tokens, std::vector<ContextRun>* runs);

}  // namespace lode::runtime
