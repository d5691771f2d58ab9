// Small helpers on strings and numbers for people: formatting, sizes, rates, closest names.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace lode {

// printf into a string (C++20's std::format is not in Debian 12's library).
[[gnu::format(printf, 1, 2)]] std::string Format(const char* format, ...);

// "17.7 GB", "4.0 KB": decimal units, as disks and memory bandwidth are counted.
std::string HumanBytes(uint64_t bytes);
// "17.7 GiB": binary units, as memory is counted.
std::string HumanBytesBinary(uint64_t bytes);
// "1,234,567".
std::string WithThousands(uint64_t number);

std::vector<std::string> Split(std::string_view text, char separator);
std::string Join(const std::vector<std::string>& parts, std::string_view separator);
bool StartsWith(std::string_view text, std::string_view prefix);
bool EndsWith(std::string_view text, std::string_view suffix);

// Quotes for an error message: at most `bytes_max` bytes, cut at a character, in single quotes.
std::string Quote(std::string_view text, size_t bytes_max = 80);

// The candidate with the smallest edit distance to `word`, or empty when none is near.
std::string ClosestName(std::string_view word, const std::vector<std::string>& candidates);

// The whole of `text` as a number; nothing else may stand in it.
bool ParseInt64(std::string_view text, int64_t* value);
bool ParseDouble(std::string_view text, double* value);

}  // namespace lode
