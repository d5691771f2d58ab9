// Hand-written matchers for the pre-tokenizer expressions that published checkpoints use. Each gives
// exactly what the regular expression gives (leftmost, first alternative that matches, greedy with
// backtracking) in time linear in the text. Any other expression goes through text/tokenizer/regex.h.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

namespace lode::text {

enum class Pattern { kGpt2, kLlama3, kQwen2, kQwen35, kTekken, kO200k };

// The pattern whose expression is `regex`, letter for letter (or one of its known spellings).
std::optional<Pattern> RecognisePattern(std::string_view regex);
// The expression itself.
std::string_view PatternRegex(Pattern pattern);

// The end of the match that begins at `at` (inside `text`, valid UTF-8). Every one of these patterns
// matches at every position, so matches tile the text and the end is always behind `at`.
size_t MatchEnd(Pattern pattern, std::string_view text, size_t at);

}  // namespace lode::text
