#include "text/tokenizer/tokenizer.h"

#include <algorithm>

#include "base/text.h"
#include "base/utf8.h"
#include "text/tokenizer/byte_alphabet.h"
#include "text/tokenizer/parts.h"

namespace lode::text {
namespace {

// Scratches kept for reuse; more threads than this encode correctly, too, with colder caches.
constexpr size_t kScratchesKept = 16;

// Tokens that end a turn whatever the metadata says. <|end|> ends a message, not the turn, where
// there is a <|return|>.
constexpr std::string_view kTurnEnds[] = {
    "<|eot_id|>",    "<|im_end|>",        "<|end|>",       "<|return|>", "<|call|>",
    "<|endoftext|>", "<|eom_id|>",        "<end_of_turn>", "</s>",       "[EOT]",
    "<EOT>",         "<|end_of_text|>",   "<｜end▁of▁sentence｜>"};

// Valid text without a copy, repaired text otherwise.
std::string_view Repair(std::string_view text, std::string* storage) {
  if (std::none_of(text.begin(), text.end(), [](char c) { return (c & 0x80) != 0; }) ||
      IsValidUtf8(text)) {
    return text;
  }
  *storage = ReplaceInvalidUtf8(text);
  return *storage;
}

}  // namespace

// Encoding -----------------------------------------------------------------------------------------

namespace {

// One Encode call: borrows a scratch, walks added tokens, normalizer, pre-tokenizer, model.
class Encoder {
 public:
  using Parts = TokenizerLoader::Parts;
  Encoder(const Parts& parts, const EncodeOptions& options) : parts_(parts), options_(options) {
    const std::lock_guard lock(parts.scratch_mutex);
    if (!parts.scratches.empty()) {
      scratch_ = std::move(parts.scratches.back());
      parts.scratches.pop_back();
    }
  }
  ~Encoder() {
    const std::lock_guard lock(parts_.scratch_mutex);
    if (scratch_ != nullptr && parts_.scratches.size() < kScratchesKept) {
      parts_.scratches.push_back(std::move(scratch_));
    }
  }
  Encoder(const Encoder&) = delete;
  Encoder& operator=(const Encoder&) = delete;

  Result<std::vector<int32_t>> Run(std::string_view text) {
    if (scratch_ == nullptr) scratch_ = std::make_unique<BpeScratch>();
    ids_.reserve(text.size() / 4 + 8);
    std::vector<AddedSpan> spans;
    parts_.raw_matcher.Split(text, options_.recognise_special, &spans);
    for (const AddedSpan& span : spans) {
      if (span.id >= 0) {
        ids_.push_back(span.id);
      } else {
        LODE_TRY(EncodeRaw(text.substr(span.begin, span.end - span.begin), span.begin == 0));
      }
    }
    return std::move(ids_);
  }

 private:
  // Text without the added tokens that are found before normalizing.
  Result<void> EncodeRaw(std::string_view text, bool at_start) {
    if (!parts_.normalizer.empty()) {
      LODE_ASSIGN(normalized_, parts_.normalizer.Apply(text));
      text = normalized_;
    }
    if (parts_.normalized_matcher.empty()) return EncodePlain(text, at_start);
    std::vector<AddedSpan> spans;
    parts_.normalized_matcher.Split(text, options_.recognise_special, &spans);
    for (const AddedSpan& span : spans) {
      if (span.id >= 0) {
        ids_.push_back(span.id);
      } else {
        LODE_TRY(EncodePlain(text.substr(span.begin, span.end - span.begin),
                             at_start && span.begin == 0));
      }
    }
    return {};
  }

  Result<void> EncodePlain(std::string_view text, bool at_start) {
    if (const std::optional<Pattern> pattern = parts_.pre_tokenizer.only_pattern()) {
      for (size_t at = 0; at < text.size();) {
        const size_t end = MatchEnd(*pattern, text, at);
        const std::string_view piece = text.substr(at, end - at);
        at = end;
        if (Bpe::EncodeCached(piece, options_.recognise_special, *scratch_, &ids_)) continue;
        LODE_TRY(EncodePiece(piece));
      }
      return {};
    }
    std::deque<std::string> storage;
    std::vector<std::string_view> pieces;
    LODE_TRY(parts_.pre_tokenizer.Split(text, at_start, &storage, &pieces));
    for (const std::string_view piece : pieces) {
      if (Bpe::EncodeCached(piece, options_.recognise_special, *scratch_, &ids_)) continue;
      LODE_TRY(EncodePiece(piece));
    }
    return {};
  }

  Result<void> EncodePiece(std::string_view piece) {
    return parts_.bpe.Encode(piece, parts_.pre_tokenizer.pieces_are_bytes(),
                             options_.recognise_special, scratch_.get(), &ids_);
  }

  const Parts& parts_;
  const EncodeOptions& options_;
  std::unique_ptr<BpeScratch> scratch_;
  std::vector<int32_t> ids_;
  std::string normalized_;
};

}  // namespace

Result<std::vector<int32_t>> Tokenizer::Encode(std::string_view text,
                                               const EncodeOptions& options) const {
  std::string repaired;
  text = Repair(text, &repaired);
  LODE_ASSIGN(std::vector<int32_t> ids, Encoder(*parts_, options).Run(text));
  return parts_->post_processor.Apply(std::move(ids), options.add_special);
}

// Decoding -----------------------------------------------------------------------------------------

Result<std::string> Tokenizer::Decode(std::span<const int32_t> ids, bool skip_special) const {
  for (size_t i = 0; i < ids.size(); ++i) {
    if (!Has(ids[i])) {
      return Error(Code::kBadInput,
                   Format("token id %d (number %zu of the list) is not in the vocabulary, whose ids "
                          "are 0 to %d",
                          ids[i], i + 1, vocab_size() - 1));
    }
  }
  std::string text;
  if (parts_->decoder.is_byte_level()) {  // what the stream below gives, in one go
    for (const int32_t id : ids) {
      if (!skip_special || !IsSpecial(id)) text += TokenBytes(id);
    }
    return IsValidUtf8(text) ? text : ReplaceInvalidUtf8(text);
  }
  StreamDecoder decoder(*this, skip_special);
  for (const int32_t id : ids) text += decoder.Push(id);
  text += decoder.Flush();
  return text;
}

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, bool skip_special)
    : tokenizer_(&tokenizer),
      skip_special_(skip_special),
      stream_(std::make_unique<DecodeStream>(tokenizer.parts_->decoder)) {}
StreamDecoder::~StreamDecoder() = default;
StreamDecoder::StreamDecoder(StreamDecoder&&) noexcept = default;
StreamDecoder& StreamDecoder::operator=(StreamDecoder&&) noexcept = default;

std::string StreamDecoder::Push(int32_t id) {
  std::string out;
  if (!tokenizer_->Has(id) || (skip_special_ && tokenizer_->IsSpecial(id))) return out;
  if (tokenizer_->parts_->decoder.is_byte_level()) {
    stream_->PushBytes(tokenizer_->TokenBytes(id), &out);
  } else {
    stream_->Push(tokenizer_->TokenText(id), &out);
  }
  return out;
}

std::string StreamDecoder::Flush() {
  std::string out;
  stream_->Flush(&out);
  return out;
}

// The rest -----------------------------------------------------------------------------------------

Tokenizer::Tokenizer(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
Tokenizer::~Tokenizer() = default;

int32_t Tokenizer::vocab_size() const { return static_cast<int32_t>(parts_->tokens.size()); }

bool Tokenizer::Has(int64_t id) const {
  return id >= 0 && id < vocab_size() && parts_->tokens[id].exists;
}

std::string_view Tokenizer::TokenText(int32_t id) const {
  if (!Has(id)) return {};
  const TokenInfo& token = parts_->tokens[id];
  return std::string_view(parts_->texts).substr(token.text_offset, token.text_bytes);
}

std::string_view Tokenizer::TokenBytes(int32_t id) const {
  if (!Has(id)) return {};
  const TokenInfo& token = parts_->tokens[id];
  return std::string_view(parts_->raws).substr(token.raw_offset, token.raw_bytes);
}

bool Tokenizer::IsSpecial(int32_t id) const { return Has(id) && parts_->tokens[id].special; }

std::optional<int32_t> Tokenizer::TokenToId(std::string_view token) const {
  return parts_->Find(token);
}

std::optional<int32_t> Tokenizer::bos_id() const { return parts_->bos; }
std::optional<int32_t> Tokenizer::eos_id() const { return parts_->eos; }
std::optional<int32_t> Tokenizer::pad_id() const { return parts_->pad; }
std::optional<int32_t> Tokenizer::unk_id() const { return parts_->unk; }
const std::vector<int32_t>& Tokenizer::stop_ids() const { return parts_->stops; }
const std::vector<std::string>& Tokenizer::warnings() const { return parts_->warnings; }

std::optional<int32_t> Tokenizer::Parts::Find(std::string_view token) const {
  for (const AddedToken& added_token : added) {
    if (added_token.content == token) return added_token.id;
  }
  const int32_t id = bpe.vocabulary().Find(token);
  return id >= 0 ? std::optional(id) : std::nullopt;
}

// Putting it together ------------------------------------------------------------------------------

std::unique_ptr<TokenizerLoader::Parts> TokenizerLoader::New() { return std::make_unique<Parts>(); }

Result<std::unique_ptr<Tokenizer>> TokenizerLoader::Finish(std::unique_ptr<Parts> parts) {
  const Vocabulary& vocabulary = parts->bpe.vocabulary();
  int64_t id_end = vocabulary.id_end();
  for (const AddedToken& token : parts->added) id_end = std::max<int64_t>(id_end, token.id + 1);
  if (id_end == 0) return Error(Code::kBadInput, "the vocabulary is empty");
  parts->tokens.resize(static_cast<size_t>(id_end));

  // A token's text is what the decoder gets; its bytes are what it stands for.
  const auto set = [&](int32_t id, std::string_view text) {
    TokenInfo& info = parts->tokens[id];
    info.exists = true;
    info.text_offset = parts->texts.size();
    info.text_bytes = static_cast<uint32_t>(text.size());
    parts->texts += text;
    info.raw_offset = parts->raws.size();
    if (!parts->decoder.is_byte_level() || !LettersToBytes(text, &parts->raws)) {
      parts->raws += text;
    }
    info.raw_bytes = static_cast<uint32_t>(parts->raws.size() - info.raw_offset);
  };
  for (int32_t id = 0; id < vocabulary.id_end(); ++id) {
    if (vocabulary.Has(id)) set(id, vocabulary.Token(id));
  }
  std::vector<bool> special_ids(static_cast<size_t>(id_end));
  for (const AddedToken& token : parts->added) {
    std::string pattern = token.content;
    if (token.normalized && !parts->normalizer.empty()) {
      LODE_ASSIGN(pattern, parts->normalizer.Apply(token.content));
    }
    TokenInfo& info = parts->tokens[token.id];
    if (info.added) {
      return Error(Code::kBadInput, Format("two added tokens have the id %d, one of them is %s",
                                           token.id, Quote(token.content).c_str()));
    }
    set(token.id, pattern);
    info.added = true;
    info.special = token.special;
    special_ids[token.id] = token.special;
    AddedMatcher& matcher = token.normalized ? parts->normalized_matcher : parts->raw_matcher;
    LODE_TRY(matcher.Add(pattern, token));
  }
  parts->bpe.SetSpecialIds(std::move(special_ids));

  for (const int32_t id : parts->post_processor.Ids()) {
    if (id >= id_end || !parts->tokens[id].exists) {
      return Error(Code::kBadInput,
                   Format("the post-processor adds the token id %d, which is not in the vocabulary",
                          id));
    }
  }
  const bool has_return = parts->Find("<|return|>").has_value();
  parts->stops = parts->more_stops;
  if (parts->eos.has_value()) parts->stops.push_back(*parts->eos);
  for (const AddedToken& token : parts->added) {
    const bool ends = std::find(std::begin(kTurnEnds), std::end(kTurnEnds), token.content) !=
                      std::end(kTurnEnds);
    if (ends && token.special && !(has_return && token.content == "<|end|>")) {
      parts->stops.push_back(token.id);
    }
  }
  std::sort(parts->stops.begin(), parts->stops.end());
  parts->stops.erase(std::unique(parts->stops.begin(), parts->stops.end()), parts->stops.end());
  return std::unique_ptr<Tokenizer>(new Tokenizer(std::move(parts)));
}

}  // namespace lode::text
