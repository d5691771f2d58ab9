#include "tune/corpus.h"

#include <algorithm>
#include <span>
#include <utility>

#include "base/file.h"
#include "base/random.h"
#include "base/text.h"
#include "base/utf8.h"
#include "tune/data/shard.h"

namespace lode::tune {
namespace {

constexpr uint64_t kDocumentBytesMax = uint64_t{4} << 30;
constexpr int kFolderDepthMax = 16;

bool IsShard(const std::string& path) { return EndsWith(path, ".bin"); }

Result<void> ListDocuments(const std::string& path, int depth, std::vector<std::string>* files) {
  if (!IsFolder(path)) {
    files->push_back(path);
    return {};
  }
  LODE_ASSIGN(const std::vector<std::string> names, ListFolder(path));
  for (const std::string& name : names) {
    const std::string inner = path + "/" + name;
    if (name.starts_with(".")) continue;
    if (IsFolder(inner)) {
      if (depth > 0) LODE_TRY(ListDocuments(inner, depth - 1, files));
    } else if (EndsWith(name, ".txt") || EndsWith(name, ".md")) {
      files->push_back(inner);
    }
  }
  return {};
}

Result<std::vector<std::string>> ReadDocuments(const std::vector<std::string>& paths) {
  std::vector<std::string> files, documents;
  for (const std::string& path : paths) {
    if (IsShard(path)) continue;
    const size_t before = files.size();
    LODE_TRY(ListDocuments(path, kFolderDepthMax, &files));
    if (files.size() == before) {
      return Error(Code::kBadInput, path + ": the folder holds no .txt and no .md file");
    }
  }
  for (const std::string& file : files) {
    LODE_ASSIGN(std::string text, ReadFile(file, kDocumentBytesMax));
    for (size_t at = 0; at < text.size();) {
      const DecodedChar next = DecodeUtf8(text, at);
      if (!next.valid) {
        return Error(Code::kBadInput, file + Format(": byte %zu is no UTF-8 text", at),
                     "convert the file to UTF-8, or leave it out");
      }
      at += static_cast<size_t>(next.bytes);
    }
    if (!text.empty()) documents.push_back(std::move(text));
  }
  return documents;
}

// Moves the last `share` of the bytes of all documents to a list of their own.
std::vector<std::string> CutTail(double share, std::vector<std::string>* documents) {
  size_t all = 0;
  for (const std::string& document : *documents) all += document.size();
  auto left = static_cast<size_t>(share * static_cast<double>(all));
  std::vector<std::string> tail;
  while (left > 0 && !documents->empty()) {
    std::string& last = documents->back();
    if (last.size() <= left) {
      left -= last.size();
      tail.push_back(std::move(last));
      documents->pop_back();
      continue;
    }
    size_t cut = last.size() - left;
    while (cut > 0 && (static_cast<unsigned char>(last[cut]) & 0xC0) == 0x80) --cut;
    tail.push_back(last.substr(cut));
    last.resize(cut);
    left = 0;
  }
  std::reverse(tail.begin(), tail.end());
  return tail;
}

}  // namespace

Result<void> Corpus::Encode(const std::vector<std::string>& documents,
                            std::vector<int32_t>* tokens) {
  text::EncodeOptions options;
  options.recognise_special = false;
  for (const std::string& document : documents) {
    if (!tokens->empty() && text_.tokenizer->eos_id())
      tokens->push_back(*text_.tokenizer->eos_id());
    LODE_ASSIGN(const std::vector<int32_t> ids, text_.tokenizer->Encode(document, options));
    tokens->insert(tokens->end(), ids.begin(), ids.end());
  }
  return {};
}

Result<void> Corpus::AddShards(const std::vector<std::string>& paths,
                               std::vector<int32_t>* tokens) {
  for (const std::string& path : paths) {
    if (!IsShard(path)) continue;
    LODE_ASSIGN(const auto shard, TokenShard::Open(path));
    LODE_TRY(shard->Check(*text_.tokenizer));
    const size_t before = tokens->size();
    tokens->resize(before + static_cast<size_t>(shard->tokens()));
    shard->Read(0, std::span(*tokens).subspan(before));
    documents_ += shard->documents();
  }
  return {};
}

Result<std::unique_ptr<Corpus>> Corpus::Read(const CorpusOptions& options) {
  std::unique_ptr<Corpus> corpus(new Corpus());
  corpus->sequence_ = options.sequence;
  corpus->seed_ = options.seed;
  LODE_ASSIGN(std::vector<std::string> training, ReadDocuments(options.training));
  corpus->documents_ = std::ssize(training);
  std::vector<std::string> texts = training;
  std::vector<std::string> held_out;
  const bool cut = options.held_out.empty();
  if (cut) {
    held_out = CutTail(options.held_out_share, &training);
  } else {
    LODE_ASSIGN(held_out, ReadDocuments(options.held_out));
    texts.insert(texts.end(), held_out.begin(), held_out.end());
  }
  LODE_ASSIGN(corpus->text_, options.tokenizer_folder.empty()
                                 ? MakeRunText(options.tokenizer, options.checkpoint, texts)
                                 : ReadRunText(options.tokenizer_folder));
  LODE_TRY(corpus->Encode(training, &corpus->training_));
  LODE_TRY(corpus->Encode(held_out, &corpus->held_out_));
  std::vector<int32_t> shards;
  LODE_TRY(corpus->AddShards(options.training, &shards));
  LODE_TRY(corpus->AddShards(options.held_out, &corpus->held_out_));
  const double kept = static_cast<double>(shards.size()) * (1.0 - options.held_out_share);
  const auto end = shards.begin() + (cut ? static_cast<std::ptrdiff_t>(kept) : std::ssize(shards));
  corpus->training_.insert(corpus->training_.end(), shards.begin(), end);
  corpus->held_out_.insert(corpus->held_out_.end(), end, shards.end());
  const auto short_of = [&](const std::vector<int32_t>& tokens, const char* what) {
    return Error(Code::kBadInput,
                 Format("the %s text has %zu tokens, less than one sequence of %lld and its "
                        "last follower",
                        what, tokens.size(), static_cast<long long>(options.sequence)),
                 "add text, or lower train.sequence");
  };
  if (std::ssize(corpus->training_) <= options.sequence) {
    return short_of(corpus->training_, "training");
  }
  if (!corpus->held_out_.empty() && std::ssize(corpus->held_out_) <= options.sequence) {
    return short_of(corpus->held_out_, "held-out");
  }
  return corpus;
}

void Corpus::Add(const std::vector<int32_t>& tokens, size_t begin, float coefficient,
                 train::PackedBatch* batch) const {
  const auto count = static_cast<size_t>(sequence_);
  const std::span<const int32_t> all = tokens;
  const std::vector<float> coefficients(count, coefficient);
  batch->Add(all.subspan(begin, count), all.subspan(begin + 1, count), coefficients);
}

void Corpus::AddTraining(int64_t step, int64_t row, float coefficient,
                         train::PackedBatch* batch) const {
  const uint64_t key =
      RandomKey(RandomKey(seed_, static_cast<uint64_t>(step)), static_cast<uint64_t>(row));
  const auto places = static_cast<uint64_t>(std::ssize(training_) - sequence_);
  Add(training_, RandomBelow(key, places), coefficient, batch);
}

int64_t Corpus::held_out() const {
  return held_out_.empty() ? 0 : (std::ssize(held_out_) - 1) / sequence_;
}

void Corpus::AddHeldOut(int64_t index, float coefficient, train::PackedBatch* batch) const {
  Add(held_out_, static_cast<size_t>(index * sequence_), coefficient, batch);
}

int64_t Corpus::BytesOf(int32_t token) const {
  return std::ssize(text_.tokenizer->TokenBytes(token));
}

uint64_t Corpus::digest() const {
  uint64_t digest = 0;
  for (const auto* tokens : {&training_, &held_out_}) {
    digest = RandomKey(digest, tokens->size());
    for (const int32_t token : *tokens) digest = RandomKey(digest, static_cast<uint64_t>(token));
  }
  return digest;
}

}  // namespace lode::tune
