// Saved contexts, as plain data: what one is (ContextImage), and one that lies in a file, read and
// checked (ContextFile). Knows nothing of engines; saving and finding files is context_store.h,
// where each byte stands is context_format.h.
//
// A file is not believed: its head, footer and token ids are checked when it is opened, a page or
// state when it is first asked for, and then damage costs only the resume points that need the
// record. A delta reads what it does not hold from the file it was made from, as if it were its
// own.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "runtime/saved/context_chain.h"

namespace lode::runtime {

class Sealer;

// What writer and reader must agree on before a byte of a page means anything.
struct ContextGeometry {
  int64_t page_tokens = 128;
  uint64_t page_bytes = 0;      // 0: the model keeps no keys and values
  uint64_t slot_bytes = 0;      // 0: the model has no recurrent layers
  uint64_t mtp_page_bytes = 0;  // 0: no MTP head
  uint64_t hidden_bytes = 0;    // of a hidden row beside a snapshot; 0: none is kept
  std::string layout;           // how pages and slots look inside, in words; compared as a whole

  bool operator==(const ContextGeometry&) const = default;
};

// A digest, and what a person calls the thing. The label is only quoted. All zero: there is none.
struct ContextFingerprint {
  ContextDigest digest{};
  std::string label;
};

struct ContextFingerprints {
  ContextFingerprint model, tokenizer, chat_template, numerics;
};

struct ContextSnapshot {
  int64_t offset = 0;                 // the state after so many tokens, 1..tokens
  std::span<const std::byte> state;   // slot_bytes
  std::span<const std::byte> hidden;  // hidden_bytes, or empty
  uint32_t tag = 0;                   // the owner's number (a class, say); kept, not understood
};

// Everything that is saved. Spans must live, unchanged, until Save returns.
struct ContextImage {
  ContextGeometry geometry;
  ContextFingerprints fingerprints;
  ContextDigest tenant{};  // key id of the owner; another one's file is as if it were not there
  std::span<const int32_t> tokens;
  std::vector<ContextRun> runs;  // how the tokens were made; empty: one run of prefill, no adapter
  // Page i holds rows of tokens [i page_tokens, ...), page_bytes each, the last one partly filled.
  // An empty span: that page is not saved, and no snapshot beyond its first token can be resumed.
  // All of page_bytes is stored: rows behind the last token had better be zero.
  std::vector<std::span<const std::byte>> pages;
  std::vector<std::span<const std::byte>> mtp_pages;
  int64_t mtp_tokens = 0;                  // that the MTP pages cover
  std::vector<ContextSnapshot> snapshots;  // offsets ascending
  Json meta = Json::object();              // marks, classes, ... An object; Save adds "name"
};

// What may be done with a context here.
struct ContextMatch {
  enum class Use : uint8_t {
    kExact,       // pages and states continue with the same bits
    kForeign,     // other numerics: usable, but not the bits that this engine would compute
    kTokensOnly,  // pages and states mean nothing here; the ids can be computed again
  };
  Use use = Use::kExact;
  bool text_continues = true;  // tokenizer and template agree: new text may follow the old ids
  std::vector<std::string>
      differing;  // names of the fields: "model", "numerics", "page_bytes", ...
  // One sentence that names the field and what can still be done; empty when nothing differs.
  std::string sentence, hint;

  // An Error unless the use is at least as good as `wanted`.
  Result<void> Require(Use wanted) const;
};

struct ContextOpenOptions {
  // The caller's; a file of another one is kNotFound, with the sentence of a file that is absent,
  // unless `name_foreign` (one person's own command line) asks for a plain one.
  ContextDigest tenant{};
  bool name_foreign = false;
  const Sealer* sealer = nullptr;  // for sealed files; must outlive the file
  // Off: read instead of mapped, for files that others may shorten while we look (and no Page/State
  // spans then). Files of a store are ours alone.
  bool map = true;
};

// One record that is not what it should be.
struct ContextDamage {
  std::string file;  // its name: a delta's record may be missing in a parent
  std::string what;  // "page 17", "the state at 4,096", "the footer", "the parent"
  std::string reason;
};

struct ContextRecord;      // context_format.h
struct ContextSuperblock;  // context_format.h
class ContextOpener;       // context_open.h
class ContextSource;       // context_open.h
enum class RecordType : uint8_t;

// Life: spans live as long as the object. Threads: all const calls at once.
class ContextFile {
 public:
  // A file outside of any store, at a path, by itself: of a delta only what it holds.
  static Result<std::unique_ptr<ContextFile>> OpenPath(const std::string& path,
                                                       const ContextOpenOptions& options);
  // Bytes that outlive the object.
  static Result<std::unique_ptr<ContextFile>> FromMemory(std::span<const std::byte> bytes,
                                                         const std::string& name,
                                                         const ContextOpenOptions& options);
  ~ContextFile();
  ContextFile(const ContextFile&) = delete;
  ContextFile& operator=(const ContextFile&) = delete;

  const std::string& name() const { return name_; }
  const ContextGeometry& geometry() const { return geometry_; }
  const ContextFingerprints& fingerprints() const { return fingerprints_; }
  std::span<const int32_t> tokens() const { return tokens_; }
  const std::vector<ContextRun>& runs() const { return runs_; }
  // One digest for each page_tokens tokens begun; recomputed from the ids when opened.
  const std::vector<ContextDigest>& chain() const { return chain_; }
  const Json& meta() const { return meta_; }
  int64_t created() const;       // seconds since 1970
  uint64_t file_bytes() const;   // of this file alone
  ContextDigest digest() const;  // of this file; what a delta calls its parent by
  bool sealed() const;
  bool compressed() const;
  // The file that this one is a delta of; nullptr: self-contained (or the parent is missing, which
  // damage() then says). And of how many tokens at the beginning the two agree.
  const ContextFile* parent() const { return parent_.get(); }
  std::string parent_name() const;
  bool is_delta() const;
  int64_t shared_tokens() const { return shared_tokens_; }

  // How this context fits what runs here. Compares labels never, digests and geometry only.
  ContextMatch Match(const ContextGeometry& geometry,
                     const ContextFingerprints& fingerprints) const;

  // Offsets with a state and all pages below, ascending, as far as looked at: records found bad so
  // far are counted out, others have not been read yet.
  std::vector<int64_t> Points() const;
  uint32_t Tag(int64_t offset) const;
  // The deepest point at or below `offset_max` (-1: any) whose records are all sound: reads and
  // checks them. 0 when there is none: begin anew from the ids.
  int64_t DeepestSound(int64_t offset_max = -1) const;

  int64_t pages() const;  // page indices that may be asked for: 0..pages()-1
  int64_t mtp_pages() const;
  int64_t mtp_tokens() const;
  bool HasPage(int64_t index) const;
  bool HasMtpPage(int64_t index) const;
  bool HasState(int64_t offset) const;
  bool HasHidden(int64_t offset) const;

  // In the mapping, verified on the first call: nothing is copied. page_bytes and slot_bytes long.
  // Errors: kNotFound when it is not there; kUnsupported when it has no bytes of its own in the
  // file (compressed, sealed, not mapped): then Read copies it; kBadInput when it is damaged.
  Result<std::span<const std::byte>> Page(int64_t index) const;
  Result<std::span<const std::byte>> MtpPage(int64_t index) const;
  Result<std::span<const std::byte>> State(int64_t offset) const;
  Result<std::span<const std::byte>> Hidden(int64_t offset) const;

  // Into `target`, of exactly the right size; works for every file. On an error the target's bytes
  // mean nothing.
  Result<void> ReadPage(int64_t index, std::span<std::byte> target) const;
  Result<void> ReadMtpPage(int64_t index, std::span<std::byte> target) const;
  Result<void> ReadState(int64_t offset, std::span<std::byte> target) const;
  Result<void> ReadHidden(int64_t offset, std::span<std::byte> target) const;

  // Reads every byte, parents' too. Then damage() is complete and Points() are sound.
  // Errors: kCancelled when `stop` is set.
  Result<void> VerifyAll(const std::atomic<bool>* stop = nullptr) const;
  // What has been found bad so far.
  std::vector<ContextDamage> damage() const;

 private:
  friend class ContextOpener;
  ContextFile();

  const ContextRecord* FindOwn(RecordType type, int64_t first_token) const;
  // Here or in a parent. nullptr: absent, or known to be damaged.
  const ContextRecord* Find(RecordType type, int64_t first_token, const ContextFile** holder) const;
  bool Has(RecordType type, int64_t first_token) const;
  bool Inherits(RecordType type, int64_t first_token) const;
  Result<std::span<const std::byte>> View(RecordType type, int64_t first_token) const;
  Result<void> Read(RecordType type, int64_t first_token, std::span<std::byte> target) const;
  Error Absent(RecordType type, int64_t first_token) const;

  // Of records of this file.
  Result<void> Verify(const ContextRecord& record) const;
  Result<void> Decode(const ContextRecord& record, std::span<std::byte> target) const;
  Result<void> CopyRaw(const ContextRecord& record, std::span<std::byte> target) const;
  // Writes the damage down, once, and says it.
  Error Damaged(const ContextRecord& record, const std::string& reason) const;
  void NoteDamage(const std::string& what, const std::string& reason) const;
  void VerifyFrame() const;
  void CollectStates(int64_t limit, std::vector<int64_t>* offsets) const;
  int64_t LeadingPages(int64_t count) const;

  std::string name_;
  std::unique_ptr<ContextSource> source_;
  std::unique_ptr<ContextSuperblock> superblock_;
  std::vector<std::byte> facts_;  // the superblock's bytes
  std::vector<std::byte> index_;  // the records' headers
  const Sealer* sealer_ = nullptr;
  ContextGeometry geometry_;
  ContextFingerprints fingerprints_;
  std::vector<int32_t> tokens_;
  std::vector<ContextRun> runs_;
  std::vector<ContextDigest> chain_;
  Json meta_ = Json::object();
  ContextDigest digest_{};
  std::vector<ContextRecord> records_;
  std::vector<uint32_t> by_key_;  // records of known types, by type and first token
  std::unique_ptr<std::atomic<uint8_t>[]> verdicts_;  // of records_
  std::unique_ptr<ContextFile> parent_;
  int64_t shared_tokens_ = 0;
  mutable std::mutex damage_mutex_;
  mutable std::vector<ContextDamage> damage_;
};

}  // namespace lode::runtime
