#include "text/tokenizer/decoder.h"


#include "base/text.h"
#include "base/utf8.h"
#include "text/tokenizer/byte_alphabet.h"

namespace lode::text {
namespace {

enum class Kind { kByteLevel, kByteFallback, kFuse, kStrip, kReplace, kMetaspace, kSuffix };

// The byte of "<0xHH>", or -1.
int ByteOfToken(std::string_view token) {
  if (token.size() != 6 || !StartsWith(token, "<0x") || token[5] != '>') return -1;
  int byte = 0;
  for (const char c : token.substr(3, 2)) {
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                             : -1;
    if (digit < 0) return -1;
    byte = byte * 16 + digit;
  }
  return byte;
}

void ReplaceAll(std::string* text, std::string_view from, std::string_view to) {
  if (from.empty()) return;
  std::string out;
  size_t at = 0;
  for (size_t found = text->find(from); found != std::string::npos; found = text->find(from, at)) {
    out.append(*text, at, found - at);
    out += to;
    at = found + from.size();
  }
  out.append(*text, at);
  *text = std::move(out);
}

}  // namespace

struct Decoder::Step {
  Kind kind;
  // A step before this one joins all tokens into one: what arrives are fragments of a single text.
  bool fused = false;
  std::string content;       // kStrip: the character; kMetaspace: the replacement; kSuffix: the suffix
  int64_t strip_start = 0;   // characters at most
  int64_t strip_stop = 0;
  bool drop_in_first = false;  // kMetaspace: the first token's spaces vanish
  std::unique_ptr<Replacer> replacer;

  // One whole token through a step that sees tokens one by one.
  std::string Apply(std::string_view token, bool is_first, bool is_last) const;
  std::string Strip(std::string_view token) const;
};

std::string Decoder::Step::Strip(std::string_view token) const {
  for (int64_t i = 0; i < strip_start && StartsWith(token, content); ++i) {
    token.remove_prefix(content.size());
  }
  for (int64_t i = 0; i < strip_stop && EndsWith(token, content); ++i) {
    token.remove_suffix(content.size());
  }
  return std::string(token);
}

std::string Decoder::Step::Apply(std::string_view token, bool is_first, bool is_last) const {
  switch (kind) {
    case Kind::kStrip:
      return Strip(token);
    case Kind::kReplace: {
      // An expression that takes too long leaves the text as it is: decoding does not fail.
      Result<std::string> replaced = replacer->Apply(token);
      return replaced.ok() ? std::move(replaced).value() : std::string(token);
    }
    case Kind::kMetaspace: {
      std::string text(token);
      ReplaceAll(&text, content, is_first && drop_in_first ? "" : " ");
      return text;
    }
    case Kind::kSuffix: {
      std::string text(token);
      ReplaceAll(&text, content, is_last ? "" : " ");
      return text;
    }
    case Kind::kByteFallback: {  // behind a joining step: the one token may still be "<0xHH>"
      const int byte = ByteOfToken(token);
      return byte < 0 ? std::string(token)
                      : ReplaceInvalidUtf8(std::string(1, static_cast<char>(byte)));
    }
    case Kind::kByteLevel: {
      std::string bytes;
      if (!LettersToBytes(token, &bytes)) bytes = token;
      return ReplaceInvalidUtf8(bytes);
    }
    case Kind::kFuse:
      break;
  }
  return std::string(token);
}

Decoder::Decoder() = default;
Decoder::Decoder(Decoder&&) noexcept = default;
Decoder& Decoder::operator=(Decoder&&) noexcept = default;
Decoder::~Decoder() = default;

Result<Decoder> Decoder::Create(const Json& json) {
  Decoder decoder;
  if (json.is_null()) {
    decoder.join_with_spaces_ = true;
    return decoder;
  }
  LODE_TRY(decoder.Append(json));
  bool fused = false;
  for (Step& step : decoder.steps_) {
    step.fused = fused;
    fused = fused || step.kind == Kind::kFuse || step.kind == Kind::kByteLevel;
  }
  decoder.is_byte_level_ =
      decoder.steps_.size() == 1 && decoder.steps_[0].kind == Kind::kByteLevel;
  return decoder;
}

Result<void> Decoder::Append(const Json& json) {
  const std::string type = GetString(json, "type");
  Step step{};
  if (type == "Sequence") {
    const Json* list = FindKey(json, "decoders");
    if (list == nullptr || !list->is_array()) {
      return Error(Code::kBadInput, "decoder Sequence has no list \"decoders\"");
    }
    for (const Json& element : *list) LODE_TRY(Append(element));
    return {};
  }
  if (type == "ByteLevel") {
    step.kind = Kind::kByteLevel;
  } else if (type == "ByteFallback") {
    step.kind = Kind::kByteFallback;
  } else if (type == "Fuse") {
    step.kind = Kind::kFuse;
  } else if (type == "Strip") {
    step.kind = Kind::kStrip;
    step.content = GetString(json, "content");
    step.strip_start = GetInt(json, "start");
    step.strip_stop = GetInt(json, "stop");
    if (step.content.empty() || step.strip_start < 0 || step.strip_stop < 0) {
      return Error(Code::kBadInput, "decoder Strip needs a content, and counts of 0 or more");
    }
  } else if (type == "Replace") {
    step.kind = Kind::kReplace;
    LODE_ASSIGN(Replacer replacer, Replacer::Create(json));
    step.replacer = std::make_unique<Replacer>(std::move(replacer));
  } else if (type == "Metaspace") {
    step.kind = Kind::kMetaspace;
    step.content = GetString(json, "replacement", "\xE2\x96\x81");
    const std::string scheme = GetString(
        json, "prepend_scheme", GetBool(json, "add_prefix_space", true) ? "always" : "never");
    step.drop_in_first = scheme != "never";
  } else if (type == "BPEDecoder") {
    step.kind = Kind::kSuffix;
    step.content = GetString(json, "suffix", "</w>");
  } else {
    return Error(Code::kUnsupported, "the decoder " + Quote(type) + " is not supported",
                 "known: ByteLevel, ByteFallback, Fuse, Strip, Replace, Metaspace, BPEDecoder, "
                 "Sequence");
  }
  steps_.push_back(std::move(step));
  return {};
}

// Streaming ----------------------------------------------------------------------------------------

struct DecodeStream::State {
  std::string held;         // bytes or text that waits
  bool holds = false;       // kSuffix: `held` is a token, perhaps an empty one
  bool any = false;         // something came before
  int64_t stripped = 0;     // fused kStrip: characters taken off the beginning so far
  bool start_done = false;  // fused kStrip: the beginning is over
};

DecodeStream::DecodeStream(const Decoder& decoder)
    : decoder_(&decoder), states_(decoder.steps_.size()) {}
DecodeStream::~DecodeStream() = default;
DecodeStream::DecodeStream(DecodeStream&&) noexcept = default;
DecodeStream& DecodeStream::operator=(DecodeStream&&) noexcept = default;

void DecodeStream::Push(std::string_view token, std::string* out) {
  if (decoder_->join_with_spaces_) {
    if (any_) *out += ' ';
    *out += ReplaceInvalidUtf8(token);
  } else {
    Run(0, token, out);
  }
  any_ = true;
}

void DecodeStream::PushBytes(std::string_view bytes, std::string* out) {
  states_[0].held += bytes;
  EmitCompleteBytes(0, out);
}

void DecodeStream::Flush(std::string* out) {
  End(0, out);
  states_ = std::vector<State>(decoder_->steps_.size());
  any_ = false;
}

void DecodeStream::EmitCompleteBytes(size_t step, std::string* out) {
  std::string& held = states_[step].held;
  const size_t waiting = IncompleteUtf8Suffix(held);
  if (waiting == held.size()) return;
  const std::string_view complete = std::string_view(held).substr(0, held.size() - waiting);
  Run(step + 1, ReplaceInvalidUtf8(complete), out);
  held.erase(0, held.size() - waiting);
}

void DecodeStream::EndByteRun(size_t step, std::string* out) {
  std::string& held = states_[step].held;
  if (held.empty()) return;
  if (IsValidUtf8(held)) {
    Run(step + 1, held, out);
  } else {
    std::string replacement;
    AppendUtf8(kReplacementCharacter, &replacement);
    for (size_t i = 0; i < held.size(); ++i) Run(step + 1, replacement, out);
  }
  held.clear();
}

// Sends `token` (or, behind a joining step, a fragment) through the steps from `index` on.
void DecodeStream::Run(size_t index, std::string_view token, std::string* out) {
  if (index == states_.size()) {
    *out += token;
    return;
  }
  const Decoder::Step& step = decoder_->steps_[index];
  State& state = states_[index];
  if (step.fused && step.kind == Kind::kStrip) {
    state.held += token;
    std::string_view text = state.held;
    while (!state.start_done && !text.empty()) {
      if (state.stripped == step.strip_start) {
        state.start_done = true;
      } else if (StartsWith(text, step.content)) {
        text.remove_prefix(step.content.size());
        ++state.stripped;
      } else {
        state.start_done = true;
      }
    }
    // What may yet be stripped at the end: trailing characters equal to the content, up to stop.
    std::string_view certain = text;
    for (int64_t i = 0; i < step.strip_stop && EndsWith(certain, step.content); ++i) {
      certain.remove_suffix(step.content.size());
    }
    const std::string ready(certain);
    state.held = std::string(text.substr(certain.size()));
    if (!ready.empty()) Run(index + 1, ready, out);
    return;
  }
  if (step.fused && step.kind != Kind::kFuse) {  // needs the whole text
    state.held += token;
    return;
  }
  switch (step.kind) {
    case Kind::kByteLevel: {
      if (!LettersToBytes(token, &state.held)) state.held += token;
      EmitCompleteBytes(index, out);
      break;
    }
    case Kind::kByteFallback: {
      const int byte = ByteOfToken(token);
      if (byte >= 0) {
        state.held += static_cast<char>(byte);
      } else {
        EndByteRun(index, out);
        Run(index + 1, token, out);
      }
      break;
    }
    case Kind::kFuse:
      if (!token.empty()) Run(index + 1, token, out);
      break;
    case Kind::kSuffix: {  // only the last token's suffix is not a space
      if (state.holds) Run(index + 1, step.Apply(state.held, false, false), out);
      state.held = token;
      state.holds = true;
      break;
    }
    case Kind::kStrip:
    case Kind::kReplace:
    case Kind::kMetaspace:
      Run(index + 1, step.Apply(token, !state.any, false), out);
      break;
  }
  state.any = true;
}

// The input of step `index` has ended: what it held goes on, then its successors end.
void DecodeStream::End(size_t index, std::string* out) {
  if (index == states_.size()) return;
  const Decoder::Step& step = decoder_->steps_[index];
  State& state = states_[index];
  if (step.fused && step.kind == Kind::kStrip) {
    // What was held back at the end is what is stripped.
  } else if (step.fused && step.kind != Kind::kFuse) {
    if (!state.held.empty()) Run(index + 1, step.Apply(state.held, true, true), out);
  } else if (step.kind == Kind::kByteLevel) {
    if (!state.held.empty()) Run(index + 1, ReplaceInvalidUtf8(state.held), out);
  } else if (step.kind == Kind::kByteFallback) {
    EndByteRun(index, out);
  } else if (step.kind == Kind::kSuffix && state.holds) {
    Run(index + 1, step.Apply(state.held, false, true), out);
  }
  End(index + 1, out);
}

}  // namespace lode::text
