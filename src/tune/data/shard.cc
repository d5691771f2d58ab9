#include "tune/data/shard.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/text.h"
#include "tune/data/order.h"

namespace lode::tune {
namespace {

constexpr size_t kHeaderBytes = 1024;
constexpr char kMagic[] = "LODETOKS";
constexpr uint32_t kVersion = 1;
constexpr uint32_t kHasWeights = 1;
constexpr int32_t kLlmC16 = 20240520, kLlmC32 = 20240801;
constexpr int32_t kLlmC16Version = 1, kLlmC32Version = 7;
constexpr std::string_view kMegatronMagic("MMIDIDX\0\0", 9);

using Bytes = std::span<const std::byte>;

// A number at an offset that was compared with the length.
template <typename T>
T At(Bytes bytes, size_t offset) {
  LODE_CHECK(offset + sizeof(T) <= bytes.size());
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof(T));
  return value;
}

template <typename T>
void Put(T value, std::string* out) {
  out->append(reinterpret_cast<const char*>(&value), sizeof(T));
}

Error Broken(const std::string& why) {
  return Error(Code::kBadInput, why, "write it anew with lode data tokenize");
}

// Begins as the text does.
bool BeginsWith(Bytes bytes, std::string_view text) {
  return bytes.size() >= text.size() && std::memcmp(bytes.data(), text.data(), text.size()) == 0;
}

uint64_t Padded(uint64_t bytes) { return (bytes + 7) / 8 * 8; }

}  // namespace

uint64_t HashOf(const text::Tokenizer& tokenizer) {
  uint64_t hash = Mix(static_cast<uint64_t>(tokenizer.vocab_size()));
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    hash = Mix(hash ^ (tokenizer.IsSpecial(id) ? 1u : 0u));
    for (const char c : tokenizer.TokenText(id)) {
      hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
    }
  }
  return hash;
}

// --- Reading. -----------------------------------------------------------------------------------

Result<void> TokenShard::ParseOwn(Bytes bytes) {
  if (bytes.size() < kHeaderBytes) return Broken("ends inside its header");
  const auto version = At<uint32_t>(bytes, 8), width = At<uint32_t>(bytes, 12),
             flags = At<uint32_t>(bytes, 16), vocabulary = At<uint32_t>(bytes, 20);
  const auto tokens = At<uint64_t>(bytes, 24), documents = At<uint64_t>(bytes, 32);
  if (version != kVersion) {
    return Error(Code::kUnsupported, Format("a shard of version %u", version));
  }
  if (width != 2 && width != 4) return Broken(Format("tokens of %u bytes", width));
  if ((flags & ~kHasWeights) != 0) return Broken(Format("flags %u, which nobody knows", flags));
  // Each is at most the file's size, so the sums below cannot overflow.
  if (tokens > bytes.size() || documents >= bytes.size() / 8) {
    return Broken("has fewer bytes than its header says");
  }
  const uint64_t ids = Padded(tokens * width), table = (documents + 1) * 8;
  const uint64_t bits = (flags & kHasWeights) != 0 ? (tokens + 7) / 8 : 0;
  if (kHeaderBytes + ids + table + bits != bytes.size()) {
    return Broken("has " + WithThousands(bytes.size()) + " bytes, its header says " +
                  WithThousands(kHeaderBytes + ids + table + bits));
  }
  data_ = bytes.data() + kHeaderBytes;
  token_bytes_ = width;
  tokens_ = static_cast<int64_t>(tokens);
  vocabulary_ = vocabulary;
  hash_ = At<uint64_t>(bytes, 40);
  uint64_t last = 0;
  for (uint64_t i = 0; i <= documents; ++i) {
    const auto offset = At<uint64_t>(bytes, kHeaderBytes + ids + i * 8);
    if (offset < last || offset > tokens || (i == 0 && offset != 0)) {
      return Broken(Format("document %llu begins outside", static_cast<unsigned long long>(i)));
    }
    offsets_.push_back(static_cast<int64_t>(offset));
    last = offset;
  }
  if (last != tokens) return Broken("its documents end before its tokens");
  weights_ = bytes.subspan(kHeaderBytes + ids + table);
  return {};
}

Result<void> TokenShard::ParseLlmC(Bytes bytes, size_t token_bytes) {
  if (bytes.size() < kHeaderBytes) return Broken("ends inside its header");
  const auto tokens = At<int32_t>(bytes, 8);
  if (tokens < 0 || kHeaderBytes + static_cast<uint64_t>(tokens) * token_bytes != bytes.size()) {
    return Broken(Format("its header says %d tokens, which is not its size", tokens));
  }
  data_ = bytes.data() + kHeaderBytes;
  token_bytes_ = token_bytes;
  tokens_ = tokens;
  OneDocument();
  return {};
}

Result<void> TokenShard::ParseMegatron(Bytes bytes, Bytes index) {
  constexpr size_t kFixed = 9 + 8 + 1 + 8 + 8;
  if (index.size() < kFixed || !BeginsWith(index, kMegatronMagic)) {
    return Broken("the .idx is no index of Megatron's");
  }
  const auto type = At<uint8_t>(index, 17);
  const auto sequences = At<uint64_t>(index, 18), documents = At<uint64_t>(index, 26);
  if (At<uint64_t>(index, 9) != 1) return Error(Code::kUnsupported, "an index of another version");
  if (type != 8 && type != 4) {
    return Error(Code::kUnsupported, Format("tokens of Megatron's type %u", type),
                 "uint16 (8) and int32 (4) are read");
  }
  token_bytes_ = type == 8 ? 2 : 4;
  const uint64_t rest = index.size() - kFixed;
  // Lengths and offsets of sequences, documents as numbers of sequences, and sometimes modes.
  if (sequences > rest / 12 || documents > rest / 8 || documents == 0 ||
      (sequences * 12 + documents * 8 != rest && sequences * 13 + documents * 8 != rest)) {
    return Broken("the .idx has another size than its counts say");
  }
  std::vector<int64_t> begins = {0};
  for (uint64_t s = 0; s < sequences; ++s) {
    const auto length = At<int32_t>(index, kFixed + s * 4);
    const auto pointer = At<int64_t>(index, kFixed + sequences * 4 + s * 8);
    if (length < 0 || pointer != begins.back() * static_cast<int64_t>(token_bytes_)) {
      return Error(Code::kUnsupported, "sequences that do not follow each other in the .bin");
    }
    begins.push_back(begins.back() + length);
  }
  if (static_cast<uint64_t>(begins.back()) * token_bytes_ != bytes.size()) {
    return Broken("the .bin has another size than the .idx says");
  }
  data_ = bytes.data();
  tokens_ = begins.back();
  uint64_t last = 0;
  for (uint64_t d = 0; d < documents; ++d) {
    const auto at = At<int64_t>(index, kFixed + sequences * 12 + d * 8);
    if (at < 0 || static_cast<uint64_t>(at) > sequences || static_cast<uint64_t>(at) < last) {
      return Broken("a document of the .idx begins outside");
    }
    last = static_cast<uint64_t>(at);
    offsets_.push_back(begins[last]);
  }
  if (offsets_.front() != 0 || offsets_.back() != tokens_) {
    return Broken("the documents of the .idx are not all of the .bin");
  }
  return {};
}

Result<std::unique_ptr<TokenShard>> TokenShard::FromMemory(Bytes bytes, Bytes index,
                                                           const std::string& name) {
  std::unique_ptr<TokenShard> shard(new TokenShard());
  shard->name_ = name;
  Result<void> parsed;
  const auto magic = bytes.size() >= 8 ? At<int32_t>(bytes, 0) : 0;
  const auto version = bytes.size() >= 8 ? At<int32_t>(bytes, 4) : 0;
  if (!index.empty()) {
    parsed = shard->ParseMegatron(bytes, index);
  } else if (BeginsWith(bytes, kMagic)) {
    parsed = shard->ParseOwn(bytes);
  } else if (magic == kLlmC16 && version == kLlmC16Version) {
    parsed = shard->ParseLlmC(bytes, 2);
  } else if (magic == kLlmC32 && version == kLlmC32Version) {
    parsed = shard->ParseLlmC(bytes, 4);
  } else {
    parsed = Error(Code::kUnsupported, "no shard of tokens",
                   "shards are Lode's, llm.c's .bin, or Megatron's .bin beside its .idx");
  }
  if (!parsed.ok()) return parsed.error().AddContext(name);
  return shard;
}

Result<std::unique_ptr<TokenShard>> TokenShard::Open(const std::string& path) {
  std::string stem = path;
  if (EndsWith(path, ".idx") || EndsWith(path, ".bin")) stem.resize(path.size() - 4);
  const bool pair = stem != path && FileExists(stem + ".idx") && FileExists(stem + ".bin");
  std::unique_ptr<MappedFile> index;
  if (pair) {
    LODE_ASSIGN(index, MappedFile::Open(stem + ".idx"));
  }
  LODE_ASSIGN(auto file, MappedFile::Open(pair ? stem + ".bin" : path));
  LODE_ASSIGN(auto shard, FromMemory(file->bytes(), pair ? index->bytes() : Bytes(), path));
  shard->file_ = std::move(file);
  return shard;
}

int64_t TokenShard::NextDocument(int64_t token) const {
  return std::upper_bound(offsets_.begin(), offsets_.end() - 1, token) - offsets_.begin();
}

void TokenShard::Read(int64_t begin, std::span<int32_t> out) const {
  LODE_CHECK(begin >= 0);
  LODE_CHECK(begin + static_cast<int64_t>(out.size()) <= tokens_);
  const std::byte* from = data_ + static_cast<size_t>(begin) * token_bytes_;
  if (token_bytes_ == 4) {
    std::memcpy(out.data(), from, out.size() * 4);
    return;
  }
  for (size_t i = 0; i < out.size(); ++i) {
    uint16_t id;
    std::memcpy(&id, from + 2 * i, 2);
    out[i] = id;
  }
}

float TokenShard::Weight(int64_t token) const {
  if (weights_.empty()) return 1.0f;
  const auto bits = std::to_integer<unsigned>(weights_[static_cast<size_t>(token / 8)]);
  return ((bits >> (token % 8)) & 1u) != 0 ? 1.0f : 0.0f;
}

Result<void> TokenShard::CheckIds(int64_t vocabulary) const {
  std::vector<int32_t> ids(4096);
  for (int64_t at = 0; at < tokens_; at += static_cast<int64_t>(ids.size())) {
    const auto count = static_cast<size_t>(std::min<int64_t>(4096, tokens_ - at));
    Read(at, std::span(ids).first(count));
    for (size_t i = 0; i < count; ++i) {
      if (ids[i] >= 0 && ids[i] < vocabulary) continue;
      return Error(Code::kBadInput,
                   Format("%s: token %lld is %u, the vocabulary has %lld", name_.c_str(),
                          static_cast<long long>(at) + static_cast<long long>(i),
                          static_cast<uint32_t>(ids[i]), static_cast<long long>(vocabulary)),
                   "the shard was made with another tokenizer");
    }
  }
  return {};
}

Result<void> TokenShard::Check(const text::Tokenizer& tokenizer) const {
  if (hash_ && *hash_ != HashOf(tokenizer)) {
    return Error(Code::kBadInput, name_ + ": was made with another tokenizer",
                 "write it anew with lode data tokenize and this model");
  }
  return CheckIds(tokenizer.vocab_size());
}

uint64_t TokenShard::Fingerprint() const {
  uint64_t hash = Mix(static_cast<uint64_t>(tokens_), offsets_.size(), weights_.size());
  const int64_t step = std::max<int64_t>(1, tokens_ / 4096);
  for (int64_t at = 0; at < tokens_; at += step) {
    int32_t id = 0;
    Read(at, std::span(&id, 1));
    hash = Mix(hash, static_cast<uint32_t>(id));
  }
  return hash;
}

// --- Writing. -----------------------------------------------------------------------------------

Result<void> ShardWriter::Add(const Example& document) {
  const bool wide = vocabulary_ > 65536;
  for (size_t t = 0; t < document.tokens.size(); ++t) {
    const int32_t id = document.tokens[t];
    const float weight = document.weights[t];
    if (id < 0 || id >= vocabulary_) {
      return Error(Code::kBadInput, Format("token %d is not in the vocabulary", id));
    }
    if (weight != 0 && weight != 1) {
      return Error(Code::kUnsupported, Format("a shard holds no weight of %g", weight),
                   "weights are 0 or 1 there; train on the records themselves");
    }
    if (wide) {
      Put(static_cast<uint32_t>(id), &ids_);
    } else {
      Put(static_cast<uint16_t>(id), &ids_);
    }
    if (tokens_ % 8 == 0) weights_.push_back(0);
    if (weight == 1) {
      weights_.back() = static_cast<char>(weights_.back() | (1 << (tokens_ % 8)));
    } else if (t > 0) {
      all_supervised_ = false;
    }
    ++tokens_;
  }
  offsets_.push_back(static_cast<uint64_t>(tokens_));
  return {};
}

std::string ShardWriter::Bytes() const {
  std::string bytes = kMagic;
  Put(kVersion, &bytes);
  Put(vocabulary_ > 65536 ? uint32_t{4} : uint32_t{2}, &bytes);
  Put(all_supervised_ ? uint32_t{0} : kHasWeights, &bytes);
  Put(static_cast<uint32_t>(vocabulary_), &bytes);
  Put(static_cast<uint64_t>(tokens_), &bytes);
  Put(static_cast<uint64_t>(documents()), &bytes);
  Put(hash_, &bytes);
  bytes.resize(kHeaderBytes);
  bytes += ids_;
  bytes.resize(Padded(bytes.size()));
  for (const uint64_t offset : offsets_) Put(offset, &bytes);
  if (!all_supervised_) bytes += weights_;
  return bytes;
}

Result<void> ShardWriter::Write(const std::string& path) const {
  return WriteFileAtomic(path, Bytes());
}

std::unique_ptr<TokenShard> ShardWriter::Finish(const std::string& name) const {
  std::string bytes = Bytes();
  std::unique_ptr<TokenShard> shard(new TokenShard());
  shard->owned_ = std::move(bytes);
  shard->name_ = name;
  const auto parsed = shard->ParseOwn(std::as_bytes(std::span(shard->owned_)));
  LODE_CHECK(parsed.ok());
  return shard;
}

}  // namespace lode::tune
