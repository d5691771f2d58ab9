// Any bytes as a saved context: opened or refused, and everything that an opened one offers is
// read.
//
// The first byte says what the others are. Bits 0-1 choose: 0 the file itself; otherwise a whole
// file (1 plain, 2 compressed, 3 sealed and compressed), to which the rest is a list of changes:
// u24 offset, u8 kind and length, bytes. Bit 2: afterwards every checksum is made right again, so
// that what stands behind them is reached; without it nothing that is read may differ from what was
// saved.
#include <stdlib.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <vector>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/check.h"
#include "base/file.h"
#include "runtime/saved/context_disk.h"
#include "runtime/saved/context_file.h"
#include "runtime/saved/context_format.h"
#include "runtime/saved/context_seal.h"
#include "runtime/saved/context_store.h"

namespace lode::runtime {
namespace {

using Bytes = std::vector<std::byte>;

constexpr uint64_t kTargetMax = uint64_t{1} << 20;  // pages and states that are read

class SameDisk : public Disk {
 public:
  int Random(void* target, size_t bytes) override {
    std::memset(target, 0x5A, bytes);
    return 0;
  }
};

// What was saved.
struct Original {
  std::vector<int32_t> tokens;
  std::vector<Bytes> pages;
  std::map<int64_t, Bytes> states;
  std::vector<Bytes> files;  // plain, compressed, sealed
};

Bytes Pattern(size_t size, int seed) {
  Bytes bytes(size);
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>((i * seed) >> (i % 4 * 3));
  return bytes;
}

std::unique_ptr<Sealer> MakeSealer() { return MakeAesGcmSealer({}); }

const Original& GetOriginal() {
  static const Original* const original = [] {
    auto* o = new Original;
    for (int i = 0; i < 20; ++i) o->tokens.push_back(i * 31 % 97);
    ContextImage image;
    image.geometry = {8, 96, 200, 32, 16, "fuzz"};
    image.tokens = o->tokens;
    image.runs = {{0, ContextRun::Kind::kPrefill, {}}, {13, ContextRun::Kind::kDecode, {}}};
    for (int i = 0; i < 3; ++i) o->pages.push_back(Pattern(96, i + 3));
    for (const Bytes& page : o->pages) image.pages.push_back(page);
    const Bytes mtp = Pattern(32, 9), hidden = Pattern(16, 8);
    image.mtp_pages.assign(3, mtp);
    image.mtp_tokens = 20;
    for (const int64_t p : {8, 20}) {
      o->states[p] = Pattern(200, static_cast<int>(p));
      image.snapshots.push_back({p, o->states[p], hidden, 3});
    }
    std::string folder = (std::filesystem::temp_directory_path() / "lode-fuzz-XXXXXX").string();
    LODE_CHECK(::mkdtemp(folder.data()) != nullptr);
    SameDisk disk;
    const auto sealer = MakeSealer();
    for (int kind = 0; kind < 3; ++kind) {
      auto store = ContextStore::Open(folder, &disk);
      ContextSaveOptions options;
      options.created = 1;
      options.zstd_level = kind == 0 ? 0 : 1;
      options.sealer = kind == 2 ? sealer.get() : nullptr;
      LODE_CHECK(store.ok() && store->Save("a", image, options).ok());
      const std::string file = ReadFile(folder + "/a.lctx").value();
      const auto* const begin = reinterpret_cast<const std::byte*>(file.data());
      o->files.emplace_back(begin, begin + file.size());
    }
    std::filesystem::remove_all(folder);
    return o;
  }();
  return *original;
}

void Change(const uint8_t* data, size_t size, Bytes* file) {
  for (size_t at = 0; at + 4 <= size && !file->empty();) {
    const size_t offset = (data[at] | data[at + 1] << 8 | data[at + 2] << 16) % file->size();
    const uint8_t kind = data[at + 3] & 3;
    const size_t length = std::min<size_t>((data[at + 3] >> 2) + 1u, size - at - 4);
    at += 4;
    if (kind == 3) {
      file->resize(offset);
      continue;
    }
    for (size_t i = 0; i < length && offset + i < file->size(); ++i) {
      const std::byte byte{data[at + i]};
      (*file)[offset + i] = kind == 0 ? byte : (*file)[offset + i] ^ byte;
    }
    at += length;
  }
}

// Makes every checksum right, and the footer one that describes the headers.
void Repair(Bytes* file) {
  if (file->size() < kSuperblockBytes) return;
  const uint64_t sum = XXH3_64bits(file->data(), kFactsBytes - 8);
  std::memcpy(file->data() + kFactsBytes - 8, &sum, 8);
  std::copy_n(file->begin(), kFactsBytes, file->begin() + kSuperblockBytes - kFactsBytes);
  FactsBytes facts;
  const auto superblock = DecodeSuperblock(*file, &facts);
  if (!superblock.ok()) return;
  Bytes index;
  uint64_t end = kSuperblockBytes;
  for (uint32_t i = 0; i < superblock->records; ++i) {
    const uint64_t at = HeaderOffset(end);
    ContextRecord record;
    if (at + kHeaderBytes > file->size()) break;
    DecodeHeader(std::span(*file).subspan(at, kHeaderBytes), superblock->salt, &record);
    record.payload_offset = PayloadOffset(end, record);
    if (record.payload_offset > file->size() ||
        record.stored_bytes > file->size() - record.payload_offset) {
      break;
    }
    record.hash = HashPayload(std::span(*file).subspan(record.payload_offset, record.stored_bytes));
    const HeaderBytes header = EncodeHeader(record, superblock->salt);
    std::copy(header.begin(), header.end(), file->begin() + static_cast<ptrdiff_t>(at));
    index.insert(index.end(), header.begin(), header.end());
    end = record.end();
  }
  ContextTail tail;
  tail.index_offset = HeaderOffset(end);
  tail.records = static_cast<uint32_t>(index.size() / kHeaderBytes);
  tail.file_bytes = tail.index_offset + index.size() + kTailBytes;
  tail.digest = FileDigest(facts, index);
  file->resize(tail.index_offset);
  file->insert(file->end(), index.begin(), index.end());
  const auto tail_bytes = EncodeTail(tail, superblock->salt, index);
  file->insert(file->end(), tail_bytes.begin(), tail_bytes.end());
}

void CheckError(const Error& error) {
  LODE_CHECK(error.code() != Code::kInternal);
  LODE_CHECK(!error.ToString().empty());
}

// Reads all pages or states; `original` unless null says what they must be.
template <typename F>
void ReadAll(uint64_t bytes, int64_t count, const F& read) {
  if (bytes > kTargetMax) return;
  Bytes target(bytes);
  for (int64_t i = 0; i < std::min<int64_t>(count, 64); ++i) read(i, target);
}

void ReadEverything(const ContextFile& file, const Original* original) {
  if (original != nullptr) {
    LODE_CHECK(std::equal(file.tokens().begin(), file.tokens().end(), original->tokens.begin(),
                          original->tokens.end()));
  }
  ReadAll(file.geometry().page_bytes, file.pages(), [&](int64_t i, Bytes& page) {
    const auto read = file.ReadPage(i, page);
    if (!read.ok()) CheckError(read.error());
    const auto view = file.Page(i);
    if (view.ok()) LODE_CHECK(read.ok() && std::equal(view->begin(), view->end(), page.begin()));
    if (read.ok() && original != nullptr) {
      LODE_CHECK(page == original->pages[static_cast<size_t>(i)]);
    }
  });
  ReadAll(file.geometry().mtp_page_bytes, file.mtp_pages(),
          [&](int64_t i, Bytes& page) { (void)file.ReadMtpPage(i, page); });
  const std::vector<int64_t> points = file.Points();
  ReadAll(file.geometry().slot_bytes, static_cast<int64_t>(points.size()),
          [&](int64_t i, Bytes& slot) {
            const int64_t point = points[static_cast<size_t>(i)];
            const auto read = file.ReadState(point, slot);
            if (!read.ok()) CheckError(read.error());
            if (read.ok() && original != nullptr) LODE_CHECK(slot == original->states.at(point));
            (void)file.Tag(point);
            (void)file.Hidden(point);
          });
}

void Run(const uint8_t* data, size_t size) {
  if (size == 0) return;
  const uint8_t mode = data[0];
  Bytes bytes;
  const bool whole = (mode & 3) == 0;
  if (whole) {
    const auto* const begin = reinterpret_cast<const std::byte*>(data);
    bytes.assign(begin + 1, begin + size);
  } else {
    bytes = GetOriginal().files[(mode & 3) - 1u];
    Change(data + 1, size - 1, &bytes);
  }
  const bool repaired = (mode & 4) != 0;
  if (repaired) Repair(&bytes);
  const auto sealer = MakeSealer();
  const auto file = ContextFile::FromMemory(bytes, "fuzz", {.sealer = sealer.get()});
  if (!file.ok()) {
    CheckError(file.error());
    return;
  }
  const ContextFile& context = **file;
  const int64_t point = context.DeepestSound();
  LODE_CHECK(point >= 0 && point <= static_cast<int64_t>(context.tokens().size()));
  ReadEverything(context, whole || repaired ? nullptr : &GetOriginal());
  LODE_CHECK(context.VerifyAll().ok());
  for (const ContextDamage& damage : context.damage()) LODE_CHECK(!damage.reason.empty());
  (void)DumpJson(context.meta());
  (void)context.Match({}, {});
}

}  // namespace
}  // namespace lode::runtime

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  lode::runtime::Run(data, size);
  return 0;
}
