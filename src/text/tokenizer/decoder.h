// Decoders: token texts -> text, as a chain of steps that works on a stream. Decoding a whole
// sequence is the stream pushed to its end, so the two cannot differ.
// What a step cannot know yet, it holds back: half a character, a run of byte tokens, what may be
// stripped at the end. A step behind one that joins everything (but for Strip) holds back all.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "text/tokenizer/normalizer.h"

namespace lode::text {

class DecodeStream;

// Built once, then read-only and free for all threads.
class Decoder {
 public:
  // `json` null: tokens are joined by spaces. Errors: kUnsupported naming the type.
  static Result<Decoder> Create(const Json& json);
  Decoder();
  Decoder(Decoder&&) noexcept;
  Decoder& operator=(Decoder&&) noexcept;
  ~Decoder();

  // The chain is ByteLevel alone: a token's text means its bytes.
  bool is_byte_level() const { return is_byte_level_; }

 private:
  friend class DecodeStream;
  struct Step;
  Result<void> Append(const Json& json);
  std::vector<Step> steps_;
  bool join_with_spaces_ = false;
  bool is_byte_level_ = false;
};

// One decoding under way. Life: the decoder outlives it. Threads: one.
class DecodeStream {
 public:
  explicit DecodeStream(const Decoder& decoder);
  ~DecodeStream();
  DecodeStream(DecodeStream&&) noexcept;
  DecodeStream& operator=(DecodeStream&&) noexcept;

  // Appends to `out` the text that is certain now: whole characters, valid UTF-8.
  void Push(std::string_view token, std::string* out);
  // For chains that are ByteLevel alone: the token's bytes, looked up beforehand.
  void PushBytes(std::string_view bytes, std::string* out);
  // The rest; the stream begins anew.
  void Flush(std::string* out);

 private:
  struct State;
  void Run(size_t step, std::string_view token, std::string* out);
  void End(size_t step, std::string* out);
  void EndByteRun(size_t step, std::string* out);
  void EmitCompleteBytes(size_t step, std::string* out);

  const Decoder* decoder_;
  std::vector<State> states_;
  bool any_ = false;
};

}  // namespace lode::text
