// What a Tokenizer is made of, and how the loaders hand it over. Private to this folder.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "text/tokenizer/added_tokens.h"
#include "text/tokenizer/bpe.h"
#include "text/tokenizer/decoder.h"
#include "text/tokenizer/normalizer.h"
#include "text/tokenizer/post_processor.h"
#include "text/tokenizer/pretokenizer.h"
#include "text/tokenizer/tokenizer.h"

namespace lode::text {

// Everything about one id, for decoding.
struct TokenInfo {
  bool exists = false;
  bool special = false;
  bool added = false;
  size_t text_offset = 0;
  uint32_t text_bytes = 0;
  size_t raw_offset = 0;
  uint32_t raw_bytes = 0;
};

struct Tokenizer::Parts {
  Bpe bpe;
  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  PostProcessor post_processor;
  Decoder decoder;
  std::vector<AddedToken> added;
  std::optional<int32_t> bos, eos, pad, unk;
  std::vector<int32_t> more_stops;  // GGUF's eot and eom
  std::vector<std::string> warnings;

  // Made by Finish.
  AddedMatcher raw_matcher;         // added tokens found in the raw text
  AddedMatcher normalized_matcher;  // and those found in normalized text
  std::vector<TokenInfo> tokens;
  std::string texts;  // what TokenInfo's offsets point into
  std::string raws;
  std::vector<int32_t> stops;

  // Scratch of the threads that encode; a few are kept for their caches.
  mutable std::mutex scratch_mutex;
  mutable std::vector<std::unique_ptr<BpeScratch>> scratches;

  std::optional<int32_t> Find(std::string_view token) const;
};

// The loaders' side of Tokenizer.
struct TokenizerLoader {
  using Parts = Tokenizer::Parts;
  static std::unique_ptr<Parts> New();
  // Checks the parts against each other and builds what is derived from them.
  static Result<std::unique_ptr<Tokenizer>> Finish(std::unique_ptr<Parts> parts);
  // From a parsed tokenizer_config.json: bos, eos, pad, unk, added tokens that are not there yet.
  static Result<void> ApplyConfig(const Json& config, Parts* parts);
  static Result<std::unique_ptr<Parts>> LoadHuggingFace(std::string_view tokenizer_json,
                                                        std::string_view tokenizer_config_json);
};

}  // namespace lode::text
