#include "runtime/saved/context_open.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>

#include "base/check.h"
#include "base/file.h"
#include "base/text.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22  // Linux 5.14; older ones refuse it, and pages come one by one
#endif

namespace lode::runtime {

Result<std::unique_ptr<ContextSource>> ContextSource::FromDescriptor(Disk* disk, int descriptor,
                                                                     const std::string& path,
                                                                     bool map) {
  std::unique_ptr<ContextSource> source(new ContextSource());
  if (disk == nullptr) source->own_disk_ = std::make_unique<Disk>();
  source->disk_ = disk == nullptr ? source->own_disk_.get() : disk;
  source->descriptor_ = descriptor;
  source->path_ = path;
  struct stat info;
  if (::fstat(descriptor, &info) != 0) return SystemError("cannot open", path, errno);
  if (!S_ISREG(info.st_mode)) return Error(Code::kBadInput, Quote(path, 300) + " is not a file");
  source->size_ = static_cast<uint64_t>(info.st_size);
  if (!map || source->size_ == 0) return source;
  void* const data = ::mmap(nullptr, source->size_, PROT_READ, MAP_SHARED, descriptor, 0);
  if (data == MAP_FAILED) return SystemError("cannot map", path, errno);
  source->data_ = static_cast<const std::byte*>(data);
  source->owns_map_ = true;
  return source;
}

std::unique_ptr<ContextSource> ContextSource::FromMemory(std::span<const std::byte> bytes) {
  std::unique_ptr<ContextSource> source(new ContextSource());
  source->data_ = bytes.data();
  source->size_ = bytes.size();
  return source;
}

ContextSource::~ContextSource() {
  if (owns_map_) ::munmap(const_cast<std::byte*>(data_), size_);
  if (descriptor_ >= 0) ::close(descriptor_);
}

Result<std::span<const std::byte>> ContextSource::Fetch(uint64_t offset, uint64_t bytes,
                                                        std::vector<std::byte>* buffer) const {
  LODE_CHECK(offset <= size_ && bytes <= size_ - offset);
  if (mapped()) return std::span<const std::byte>(data_ + offset, bytes);
  buffer->resize(bytes);
  LODE_TRY(Copy(offset, *buffer));
  return std::span<const std::byte>(*buffer);
}

Result<void> ContextSource::Copy(uint64_t offset, std::span<std::byte> target) const {
  LODE_CHECK(offset <= size_ && target.size() <= size_ - offset);
  // Not from the mapping: a read of what somebody has cut off is an error, a touch of it a signal.
  if (descriptor_ < 0) {
    if (!target.empty()) std::memcpy(target.data(), data_ + offset, target.size());
    return {};
  }
  while (!target.empty()) {
    const ssize_t got =
        disk_->Read(descriptor_, target.data(), target.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return SystemError("cannot read", path_, errno);
    if (got == 0) return Error(Code::kBadInput, "the file has become shorter");
    offset += static_cast<uint64_t>(got);
    target = target.subspan(static_cast<size_t>(got));
  }
  return {};
}

Result<void> ContextSource::Populate(uint64_t offset, uint64_t bytes) const {
  if (!owns_map_ || bytes == 0) return {};
  const uint64_t page = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  const uint64_t begin = offset / page * page;
  // The size first: where pages cannot be asked for, a shortened file would be a signal.
  struct stat info;
  const bool shorter = ::fstat(descriptor_, &info) != 0 ||
                       static_cast<uint64_t>(info.st_size) < offset + bytes;
  if (shorter || (::madvise(const_cast<std::byte*>(data_) + begin, offset + bytes - begin,
                            MADV_POPULATE_READ) != 0 &&
                  errno == EFAULT)) {
    return Error(Code::kBadInput, "the file has become shorter, or the disk cannot read it");
  }
  return {};
}

Error ContextOpener::NotFound(const std::string& name) {
  return Error(Code::kNotFound, "there is no saved context " + Quote(name, 300),
               "list the saved contexts to see which there are");
}

Result<std::unique_ptr<ContextFile>> ContextOpener::Open(std::unique_ptr<ContextSource> source,
                                                         const std::string& name,
                                                         const ContextOpenOptions& options,
                                                         const FindParent& find_parent,
                                                         uint32_t depth_max) {
  std::unique_ptr<ContextFile> file(new ContextFile());
  file->name_ = name;
  file->source_ = std::move(source);
  file->sealer_ = options.sealer;
  ContextOpener opener(file.get(), options);
  const auto open = [&]() -> Result<void> {
    LODE_TRY(opener.ReadHead());
    LODE_TRY(opener.CheckAccess());
    if (file->superblock_->depth > depth_max) {
      return Error(Code::kBadInput, "it cannot be the parent of the file that names it");
    }
    LODE_TRY(opener.ReadFooter());
    return opener.ReadContent();
  };
  if (Result<void> opened = open(); !opened.ok()) {
    // Another tenant's file has the sentence of one that is absent, word for word.
    if (opened.error().code() == Code::kNotFound) return std::move(opened).error();
    return opened.error().AddContext("saved context " + Quote(name, 300));
  }
  opener.AdoptParent(find_parent);
  return file;
}

Result<void> ContextOpener::ReadHead() {
  ContextFile& file = *file_;
  if (file.source_->size() < kSuperblockBytes) {
    return Error(Code::kBadInput, "it is too short for a saved context");
  }
  std::vector<std::byte> buffer;
  LODE_TRY(file.source_->Populate(0, kSuperblockBytes));
  LODE_ASSIGN(const std::span<const std::byte> head,
              file.source_->Fetch(0, kSuperblockBytes, &buffer));
  FactsBytes facts;
  LODE_ASSIGN(ContextSuperblock superblock, DecodeSuperblock(head, &facts));
  file.superblock_ = std::make_unique<ContextSuperblock>(std::move(superblock));
  file.facts_.assign(facts.begin(), facts.end());
  const ContextSuperblock& s = *file.superblock_;
  file.geometry_ = {s.page_tokens,    s.page_bytes,   s.slot_bytes,
                    s.mtp_page_bytes, s.hidden_bytes, ""};
  file.fingerprints_ = {{s.model, ""}, {s.tokenizer, ""}, {s.chat_template, ""}, {s.numerics, ""}};
  return {};
}

Result<void> ContextOpener::CheckAccess() {
  const ContextSuperblock& s = *file_->superblock_;
  if (s.tenant != options_.tenant) {
    if (!options_.name_foreign) return NotFound(file_->name_);
    return Error(Code::kBadInput,
                 "it belongs to another tenant (key id " + DigestText(s.tenant, 12) + "..., not " +
                     DigestText(options_.tenant, 12) + "...)",
                 "open it with that tenant's key; nothing of it can be used with this one");
  }
  if (!s.is_sealed()) return {};
  const std::string id = DigestText(s.key_id, 12) + "...";
  if (options_.sealer == nullptr) {
    return Error(Code::kBadInput, "it is sealed with the key " + id + ", and no key was given",
                 "give that key; nothing of it can be read without");
  }
  if (options_.sealer->key_id() != s.key_id) {
    return Error(Code::kBadInput,
                 "it is sealed with the key " + id + ", and the key given is " +
                     DigestText(options_.sealer->key_id(), 12) + "...",
                 "give the key it was sealed with; nothing of it can be read without");
  }
  LODE_CHECK(options_.sealer->overhead() <= ContextTail().tag.size());
  return {};
}

Result<void> ContextOpener::ReadFooter() {
  ContextFile& file = *file_;
  const uint64_t size = file.source_->size();
  ContextTail tail;
  if (size >= kSuperblockBytes + kTailBytes) {
    std::vector<std::byte> tail_buffer, index_buffer;
    LODE_ASSIGN(const std::span<const std::byte> tail_bytes,
                file.source_->Fetch(size - kTailBytes, kTailBytes, &tail_buffer));
    if (DecodeTail(tail_bytes, size, &tail)) {
      LODE_ASSIGN(const std::span<const std::byte> index,
                  file.source_->Fetch(tail.index_offset, size - kTailBytes - tail.index_offset,
                                      &index_buffer));
      file.index_.assign(index.begin(), index.end());
      if (FooterIsSound(tail, tail_bytes)) {
        file.digest_ = tail.digest;
        TakeRecords(/*from_footer=*/true);
        return {};
      }
    }
  }
  file.NoteDamage("the footer", "it is missing or damaged; the records were found one by one");
  LODE_TRY(Walk());
  FactsBytes facts;
  std::copy(file.facts_.begin(), file.facts_.end(), facts.begin());
  file.digest_ = FileDigest(facts, file.index_);
  TakeRecords(/*from_footer=*/false);
  return {};
}

bool ContextOpener::FooterIsSound(const ContextTail& tail, std::span<const std::byte> tail_bytes) {
  const ContextFile& file = *file_;
  const ContextSuperblock& s = *file.superblock_;
  FactsBytes facts;
  std::copy(file.facts_.begin(), file.facts_.end(), facts.begin());
  if (tail.records != s.records || !CheckTail(tail_bytes, s.salt, file.index_) ||
      tail.digest != FileDigest(facts, file.index_)) {
    return false;
  }
  if (!s.is_sealed()) return true;
  std::vector<std::byte> signed_bytes = file.facts_;
  signed_bytes.insert(signed_bytes.end(), file.index_.begin(), file.index_.end());
  return file.sealer_
      ->Open(s.salt, tail.nonce, signed_bytes, std::span(tail.tag).first(file.sealer_->overhead()),
             {})
      .ok();
}

Result<void> ContextOpener::Walk() {
  ContextFile& file = *file_;
  const ContextSuperblock& s = *file.superblock_;
  const uint64_t size = file.source_->size();
  file.index_.clear();
  std::vector<std::byte> buffer;
  uint64_t end = kSuperblockBytes;
  for (uint32_t sequence = 0; sequence < s.records; ++sequence) {
    const uint64_t offset = HeaderOffset(end);
    if (offset > size || size - offset < kHeaderBytes) break;
    LODE_ASSIGN(const std::span<const std::byte> header,
                file.source_->Fetch(offset, kHeaderBytes, &buffer));
    ContextRecord record;
    if (!DecodeHeader(header, s.salt, &record) || record.sequence != sequence) break;
    record.payload_offset = PayloadOffset(end, record);
    if (record.payload_offset > size || record.stored_bytes > size - record.payload_offset) break;
    end = record.end();
    file.index_.insert(file.index_.end(), header.begin(), header.end());
  }
  return {};
}

void ContextOpener::TakeRecords(bool from_footer) {
  ContextFile& file = *file_;
  const ContextSuperblock& s = *file.superblock_;
  const uint64_t extra = s.is_sealed() ? sizeof(ContextNonce) + file.sealer_->overhead() : 0;
  const std::span<const std::byte> index(file.index_);
  const size_t count = index.size() / kHeaderBytes;
  std::vector<const char*> reasons;
  uint64_t end = kSuperblockBytes;
  for (size_t i = 0; i < count; ++i) {
    ContextRecord record;
    if (!DecodeHeader(index.subspan(i * kHeaderBytes, kHeaderBytes), s.salt, &record) ||
        record.sequence != i) {
      break;
    }
    record.payload_offset = PayloadOffset(end, record);
    const char* const reason = CheckRecord(s, record, extra, file.source_->size());
    if (record.payload_offset > file.source_->size() ||
        record.stored_bytes > file.source_->size() - record.payload_offset) {
      break;
    }
    end = record.end();
    file.records_.push_back(record);
    reasons.push_back(reason);
  }
  if (file.records_.size() < s.records) {
    file.NoteDamage(Format("records %zu to %u", file.records_.size(), s.records - 1),
                    from_footer ? "the footer does not describe them"
                                : "the file is cut off or damaged before them");
  }
  file.verdicts_ = std::make_unique<std::atomic<uint8_t>[]>(file.records_.size());
  for (uint32_t i = 0; i < file.records_.size(); ++i) {
    if (!IsKnown(file.records_[i].type)) continue;  // of a newer minor version
    file.by_key_.push_back(i);
    if (reasons[i] != nullptr) (void)file.Damaged(file.records_[i], reasons[i]);
  }
  std::stable_sort(file.by_key_.begin(), file.by_key_.end(), [&](uint32_t a, uint32_t b) {
    const ContextRecord& x = file.records_[a];
    const ContextRecord& y = file.records_[b];
    return std::pair(x.type, x.first_token) < std::pair(y.type, y.first_token);
  });
}

Result<std::vector<std::byte>> ContextOpener::Content(RecordType type) const {
  const ContextRecord* const record = file_->FindOwn(type, 0);
  if (record == nullptr) return Error(Code::kNotFound, "it is missing");
  if (record->raw_bytes > std::max(kTextBytesMax, file_->source_->size())) {
    return Error(Code::kBadInput, "it is too long");
  }
  std::vector<std::byte> bytes(record->raw_bytes);
  LODE_TRY(file_->Decode(*record, bytes));
  return bytes;
}

Result<void> ContextOpener::ReadContent() {
  LODE_TRY(ReadTokens());
  ReadAbout();
  ReadMeta();
  ContextFile& file = *file_;
  const ContextSuperblock& s = *file.superblock_;
  if (s.is_sealed()) return {};
  for (const ContextRecord& record : file.records_) {
    if (record.type != RecordType::kPage) continue;
    const size_t block = record.first_token / static_cast<uint64_t>(s.page_tokens);
    if (block >= file.chain_.size() ||
        std::memcmp(&record.chain, file.chain_[block].data(), sizeof(record.chain)) != 0) {
      (void)file.Damaged(record, "it belongs to other tokens");
    }
  }
  return {};
}

Result<void> ContextOpener::ReadTokens() {
  ContextFile& file = *file_;
  const ContextSuperblock& s = *file.superblock_;
  const auto lost = [](const std::string& why) {
    return Error(Code::kBadInput, "its token ids are lost: " + why,
                 "nothing can be restored from it; remove it");
  };
  const Result<std::vector<std::byte>> content = Content(RecordType::kTokens);
  if (!content.ok()) return lost(content.error().message());
  const size_t ids_bytes = static_cast<size_t>(s.tokens) * sizeof(int32_t);
  const size_t blocks = static_cast<size_t>(s.blocks());
  if (content->size() != ids_bytes + blocks * sizeof(ContextDigest)) return lost("wrong length");
  file.tokens_.resize(static_cast<size_t>(s.tokens));
  if (ids_bytes > 0) std::memcpy(file.tokens_.data(), content->data(), ids_bytes);
  if (std::any_of(file.tokens_.begin(), file.tokens_.end(), [](int32_t id) { return id < 0; })) {
    return lost("there is a negative one");
  }
  if (file.FindOwn(RecordType::kRuns, 0) != nullptr) {
    const Result<std::vector<std::byte>> runs = Content(RecordType::kRuns);
    if (!runs.ok()) return lost(runs.error().message());
    if (!DecodeRuns(*runs, s.tokens, &file.runs_)) return lost("the list of runs makes no sense");
  }
  file.chain_ = ChainTokens(s.model, s.numerics, s.page_tokens, file.tokens_, file.runs_);
  if (blocks > 0 && std::memcmp(file.chain_.data(), content->data() + ids_bytes,
                                blocks * sizeof(ContextDigest)) != 0) {
    return lost("they do not fit their digests");
  }
  return {};
}

void ContextOpener::ReadAbout() {
  ContextFile& file = *file_;
  if (file.FindOwn(RecordType::kAbout, 0) == nullptr) {
    return file.NoteDamage("the description of the layout", "it is missing");
  }
  const Result<std::vector<std::byte>> content = Content(RecordType::kAbout);
  if (!content.ok()) return;  // written down already
  const Result<Json> about =
      ParseJson(std::string_view(reinterpret_cast<const char*>(content->data()), content->size()),
                {.depth_max = 8});
  if (!about.ok()) return file.NoteDamage("the description of the layout", about.error().message());
  const std::string layout = GetString(*about, "layout");
  if (Sha256(layout) == file.superblock_->layout) file.geometry_.layout = layout;
  if (const Json* labels = FindKey(*about, "labels"); labels != nullptr) {
    ContextFingerprints& f = file.fingerprints_;
    f.model.label = GetString(*labels, "model");
    f.tokenizer.label = GetString(*labels, "tokenizer");
    f.chat_template.label = GetString(*labels, "template");
    f.numerics.label = GetString(*labels, "numerics");
  }
}

void ContextOpener::ReadMeta() {
  ContextFile& file = *file_;
  if (file.FindOwn(RecordType::kMeta, 0) == nullptr) {
    return file.NoteDamage("the notes (META)", "they are missing");
  }
  const Result<std::vector<std::byte>> content = Content(RecordType::kMeta);
  if (!content.ok()) return;  // written down already
  Result<Json> meta =
      ParseJson(std::string_view(reinterpret_cast<const char*>(content->data()), content->size()),
                {.depth_max = 64});
  if (!meta.ok() || !meta->is_object()) {
    return file.NoteDamage("the notes (META)", "they are no JSON object");
  }
  file.meta_ = std::move(meta).value();
}

void ContextOpener::AdoptParent(const FindParent& find_parent) {
  ContextFile& file = *file_;
  const ContextSuperblock& s = *file.superblock_;
  if (!s.is_delta()) return;
  const std::string what = "the parent " + Quote(s.parent_name, 120);
  if (!find_parent) return file.NoteDamage(what, "this file was opened without its store");
  Result<std::unique_ptr<ContextFile>> parent = find_parent(s);
  if (!parent.ok()) return file.NoteDamage(what, parent.error().message());
  const ContextSuperblock& p = *(*parent)->superblock_;
  if ((*parent)->digest_ != s.parent || p.depth >= s.depth) {
    return file.NoteDamage(what, "the file of that name is another one");
  }
  if (p.model != s.model || p.numerics != s.numerics || p.layout != s.layout ||
      p.page_tokens != s.page_tokens || p.page_bytes != s.page_bytes ||
      p.slot_bytes != s.slot_bytes || p.mtp_page_bytes != s.mtp_page_bytes ||
      p.hidden_bytes != s.hidden_bytes) {
    return file.NoteDamage(what, "it was made by other rules");
  }
  file.shared_tokens_ =
      SharedTokens(file.tokens_, file.runs_, (*parent)->tokens_, (*parent)->runs_);
  file.parent_ = std::move(parent).value();
}

}  // namespace lode::runtime
