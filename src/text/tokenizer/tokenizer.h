// Text <-> token ids, exactly as Hugging Face's `tokenizers` does it, for byte-level BPE (and BPE with
// byte fallback) from a tokenizer.json or from GGUF metadata. It does not render chats, read files or
// know any model; text between turns is text/template's business.
//
// Surprising policies:
// - Input that is not valid UTF-8 is repaired first: every invalid part becomes U+FFFD, as everywhere
//   in Lode and as a caller of the reference gets it. Output is always valid UTF-8.
// - No BOS or EOS is added unless asked for (EncodeOptions::add_special): rendered prompts bring their
//   own as text.
// - Nemotron's GGUF files name the pre-tokenizer "pixtral", which other engines cut by Llama 3's
//   pattern; the checkpoints were trained with tekken's. The vocabulary tells them (131072 tokens, 10 is
//   <|im_start|>, 14 is <tool_call>), and then tekken's pattern is used.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace lode::text {

class DecodeStream;

// tokenizer.ggml.* of a GGUF file, filled by whoever reads one.
struct GgufVocab {
  std::string model;  // "gpt2"; others are refused by name
  std::string pre;    // empty: missing, GPT-2's pattern is used with a warning
  std::vector<std::string> tokens;
  std::vector<int32_t> token_types;  // as many as tokens, or none (all normal)
  std::vector<std::string> merges;   // "left right"
  std::optional<int64_t> bos, eos, eot, eom, unk, pad;
  std::optional<bool> add_bos, add_eos;
  std::string huggingface_json;  // tokenizer.huggingface.json; when present, the rest only sets ids
};

struct EncodeOptions {
  bool recognise_special = true;  // special tokens written in the text become their ids
  bool add_special = false;       // what the post-processor puts around a text: BOS, EOS
};

// Threads: const calls are free for all. Life: StreamDecoders must not outlive it.
class Tokenizer {
 public:
  // `tokenizer_config_json` may be empty; it gives bos, eos, pad and unk, and added tokens that
  // tokenizer.json lacks. Errors: kBadInput for what is broken, kUnsupported naming a component that
  // Lode does not do (model types other than BPE among them).
  static Result<std::unique_ptr<Tokenizer>> FromHuggingFace(
      std::string_view tokenizer_json, std::string_view tokenizer_config_json = "");
  static Result<std::unique_ptr<Tokenizer>> FromGguf(const GgufVocab& vocab);
  ~Tokenizer();

  // Errors: a character that the vocabulary lacks when its unk_token is lacking, too; a regular
  // expression that takes too long on this text.
  Result<std::vector<int32_t>> Encode(std::string_view text,
                                      const EncodeOptions& options = {}) const;
  // Valid UTF-8. Errors: an id that names no token (all of them are checked first).
  Result<std::string> Decode(std::span<const int32_t> ids, bool skip_special = false) const;

  // One more than the largest id (holes included). A model's embedding may have more rows.
  int32_t vocab_size() const;
  // Whether `id` names a token.
  bool Has(int64_t id) const;
  // The token's text as the vocabulary writes it ("Ġthe"); empty for an id that names no token.
  std::string_view TokenText(int32_t id) const;
  // The bytes it stands for in a text (" the"), which may be part of a character.
  std::string_view TokenBytes(int32_t id) const;
  std::optional<int32_t> TokenToId(std::string_view token) const;
  // A control token: dropped by skip_special, ignored as text with recognise_special off.
  bool IsSpecial(int32_t id) const;

  std::optional<int32_t> bos_id() const;
  std::optional<int32_t> eos_id() const;
  std::optional<int32_t> pad_id() const;
  std::optional<int32_t> unk_id() const;
  // eos, GGUF's eot and eom, and every added token that is known to end a turn (<|im_end|>,
  // <|eot_id|>, </s>, ...): where generation stops when nothing else says so. In increasing order.
  const std::vector<int32_t>& stop_ids() const;
  // Oddities found while loading, one sentence each; none of them is fatal.
  const std::vector<std::string>& warnings() const;

 private:
  friend class StreamDecoder;
  struct Parts;
  friend struct TokenizerLoader;
  explicit Tokenizer(std::unique_ptr<Parts> parts);

  std::unique_ptr<Parts> parts_;
};

// Turns ids into text as they come. What it has returned is always whole characters; all of it, with
// the Flush at the end, is what Decode gives for the same ids.
// Threads: one. Life: the tokenizer outlives it.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer, bool skip_special = false);
  ~StreamDecoder();
  StreamDecoder(StreamDecoder&&) noexcept;
  StreamDecoder& operator=(StreamDecoder&&) noexcept;

  // The text that is certain after this token; often empty. An id that names no token adds nothing
  // (a model's embedding may have more rows than there are tokens).
  std::string Push(int32_t id);
  // The rest: an unfinished character becomes U+FFFD. The decoder begins anew.
  std::string Flush();

 private:
  const Tokenizer* tokenizer_;
  bool skip_special_;
  std::unique_ptr<DecodeStream> stream_;
};

}  // namespace lode::text
