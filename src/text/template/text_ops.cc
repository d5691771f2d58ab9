#include "text/template/text_ops.h"

#include <algorithm>
#include <cstring>

#include "base/utf8.h"

namespace lode::text::jinja {
namespace {

// The character that ends at `end`, and where it begins.
char32_t CharBefore(std::string_view text, size_t end, size_t* begin) {
  size_t at = end - 1;
  while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) --at;
  *begin = at;
  return DecodeUtf8(text, at).code_point;
}

// `chars` may be long; the caller charges for it.
bool Matches(const Str* chars, char32_t c) {
  if (chars == nullptr) return IsSpace(c);
  std::string encoded;
  AppendUtf8(c, &encoded);
  return chars->bytes.find(encoded) != std::string::npos;
}

constexpr char32_t kSigma = 0x3A3;
constexpr char32_t kFinalSigma = 0x3C2;

// Whether the sigma at [begin, end) ends a word: a cased letter before it and none after it, looking
// past characters that case ignores.
bool IsFinalSigma(std::string_view text, size_t begin, size_t end) {
  bool cased = false;
  for (size_t at = begin; at > 0 && !cased;) {
    const char32_t c = CharBefore(text, at, &at);
    if (IsCaseIgnorable(c)) continue;
    if (!IsCased(c)) return false;
    cased = true;
  }
  if (!cased) return false;
  for (size_t at = end; at < text.size();) {
    const DecodedChar c = DecodeUtf8(text, at);
    at += c.bytes;
    if (!IsCaseIgnorable(c.code_point)) return !IsCased(c.code_point);
  }
  return true;
}

void MapChar(const Str& text, size_t at, const DecodedChar& c, Case to, Builder* out) {
  char32_t mapped[3];
  int count = MapCase(c.code_point, to, mapped);
  if (c.code_point == kSigma && to == Case::kLower && IsFinalSigma(text.bytes, at, at + c.bytes)) {
    mapped[0] = kFinalSigma;
    count = 1;
  }
  const bool input = IsInput(text, at);
  for (int i = 0; i < count; ++i) out->Char(mapped[i], input);
}

bool SplitAtSpace(Context* context, const Str& text, int64_t splits_max,
                  std::vector<Value>* parts) {
  size_t at = 0;
  const std::string& bytes = text.bytes;
  const auto skip_space = [&] {
    while (at < bytes.size()) {
      const DecodedChar c = DecodeUtf8(bytes, at);
      if (!IsSpace(c.code_point)) return;
      at += c.bytes;
    }
  };
  for (;;) {
    skip_space();
    if (at == bytes.size()) return true;
    const size_t begin = at;
    Value part;
    if (splits_max >= 0 && static_cast<int64_t>(parts->size()) >= splits_max) {
      // The rest is one part, with the white space at its end.
      if (!Piece(context, text, begin, bytes.size(), &part)) return false;
      parts->push_back(std::move(part));
      return true;
    }
    while (at < bytes.size()) {
      const DecodedChar c = DecodeUtf8(bytes, at);
      if (IsSpace(c.code_point)) break;
      at += c.bytes;
    }
    if (!Piece(context, text, begin, at, &part)) return false;
    parts->push_back(std::move(part));
  }
}

// From the right: parts are found last first.
bool SplitAtSpaceRight(Context* context, const Str& text, int64_t splits_max,
                       std::vector<Value>* parts) {
  const std::string& bytes = text.bytes;
  size_t end = bytes.size();
  for (;;) {
    size_t before = 0;
    while (end > 0 && IsSpace(CharBefore(bytes, end, &before))) end = before;
    if (end == 0) break;
    Value part;
    if (splits_max >= 0 && static_cast<int64_t>(parts->size()) >= splits_max) {
      if (!Piece(context, text, 0, end, &part)) return false;
      parts->push_back(std::move(part));
      break;
    }
    size_t begin = end;
    while (begin > 0 && !IsSpace(CharBefore(bytes, begin, &before))) begin = before;
    if (!Piece(context, text, begin, end, &part)) return false;
    parts->push_back(std::move(part));
    end = begin;
  }
  std::reverse(parts->begin(), parts->end());
  return true;
}

}  // namespace

size_t FindBytes(std::string_view text, std::string_view part, size_t from) {
  if (from > text.size()) return std::string_view::npos;
  const void* hit = memmem(text.data() + from, text.size() - from, part.data(), part.size());
  return hit == nullptr ? std::string_view::npos : static_cast<const char*>(hit) - text.data();
}

bool FindBytesFromRight(Context* context, std::string_view text, std::string_view part,
                        size_t* hit) {
  *hit = text.rfind(part);
  const size_t walked = *hit == std::string_view::npos ? text.size() : text.size() - *hit;
  // Each place may compare up to the whole part.
  constexpr size_t kFar = size_t{1} << 40;
  return context->Step(std::min(kFar, walked * std::max<size_t>(1, part.size())));
}

bool Piece(Context* context, const Str& text, size_t begin, size_t end, Value* out) {
  Builder builder(context);
  builder.Append(text, begin, end);
  return builder.Finish(out, text.safe);
}

bool Strip(Context* context, const Str& text, const Str* chars, bool left, bool right,
           Value* out) {
  size_t begin = 0;
  size_t end = text.bytes.size();
  if (!context->Step(end)) return false;
  const size_t cost = chars == nullptr ? 0 : chars->bytes.size() / 64;
  while (left && begin < end) {
    const DecodedChar c = DecodeUtf8(text.bytes, begin);
    if (cost > 0 && !context->Step(chars->bytes.size())) return false;
    if (!Matches(chars, c.code_point)) break;
    begin += c.bytes;
  }
  while (right && begin < end) {
    size_t before = 0;
    if (cost > 0 && !context->Step(chars->bytes.size())) return false;
    if (!Matches(chars, CharBefore(text.bytes, end, &before))) break;
    end = before;
  }
  return Piece(context, text, begin, end, out);
}

bool Replace(Context* context, const Str& text, const Str& from, const Str& to, int64_t count,
             bool safe, Value* out) {
  Builder builder(context);
  size_t at = 0;
  if (!context->Step(text.bytes.size())) return false;
  if (from.bytes.empty()) {
    // Between all characters, and at both ends.
    for (; count != 0 && !builder.overflow(); --count) {
      builder.Append(to);
      if (at == text.bytes.size()) break;
      const size_t next = at + DecodeUtf8(text.bytes, at).bytes;
      builder.Append(text, at, next);
      at = next;
    }
  } else {
    for (; count != 0 && !builder.overflow(); --count) {
      const size_t hit = FindBytes(text.bytes, from.bytes, at);
      if (hit == std::string::npos) break;
      builder.Append(text, at, hit);
      builder.Append(to);
      at = hit + from.bytes.size();
    }
  }
  builder.Append(text, at, text.bytes.size());
  return builder.Finish(out, safe);
}

bool ChangeCase(Context* context, const Str& text, Case to, Value* out) {
  Builder builder(context);
  for (size_t at = 0; at < text.bytes.size();) {
    const DecodedChar c = DecodeUtf8(text.bytes, at);
    MapChar(text, at, c, to, &builder);
    at += c.bytes;
  }
  return builder.Finish(out, text.safe);
}

bool Capitalize(Context* context, const Str& text, Value* out) {
  Builder builder(context);
  for (size_t at = 0; at < text.bytes.size();) {
    const DecodedChar c = DecodeUtf8(text.bytes, at);
    MapChar(text, at, c, at == 0 ? Case::kTitle : Case::kLower, &builder);
    at += c.bytes;
  }
  return builder.Finish(out, text.safe);
}

bool SplitText(Context* context, const Str& text, const Str* separator, int64_t splits_max,
               bool from_right, std::vector<Value>* parts) {
  if (!context->Step(text.bytes.size())) return false;
  if (separator == nullptr) {
    return from_right ? SplitAtSpaceRight(context, text, splits_max, parts)
                      : SplitAtSpace(context, text, splits_max, parts);
  }
  if (separator->bytes.empty()) return context->Fail("empty separator");
  const std::string& bytes = text.bytes;
  const size_t size = separator->bytes.size();
  Value part;
  if (from_right) {
    size_t end = bytes.size();
    while (splits_max < 0 || static_cast<int64_t>(parts->size()) < splits_max) {
      size_t hit = 0;
      const auto rest = std::string_view(bytes).substr(0, end);
      if (!FindBytesFromRight(context, rest, separator->bytes, &hit)) return false;
      if (hit == std::string::npos) break;
      if (!Piece(context, text, hit + size, end, &part)) return false;
      parts->push_back(std::move(part));
      end = hit;
    }
    if (!Piece(context, text, 0, end, &part)) return false;
    parts->push_back(std::move(part));
    std::reverse(parts->begin(), parts->end());
    return true;
  }
  size_t at = 0;
  while (splits_max < 0 || static_cast<int64_t>(parts->size()) < splits_max) {
    const size_t hit = FindBytes(bytes, separator->bytes, at);
    if (hit == std::string::npos) break;
    if (!Piece(context, text, at, hit, &part)) return false;
    parts->push_back(std::move(part));
    at = hit + size;
  }
  if (!Piece(context, text, at, bytes.size(), &part)) return false;
  parts->push_back(std::move(part));
  return true;
}

bool SplitLines(Context* context, const Str& text, bool keep_ends, std::vector<Value>* lines) {
  const std::string& bytes = text.bytes;
  if (!context->Step(bytes.size())) return false;
  for (size_t begin = 0; begin < bytes.size();) {
    size_t end = begin;
    size_t next = bytes.size();
    for (end = begin; end < bytes.size();) {
      const DecodedChar c = DecodeUtf8(bytes, end);
      if (IsLineBreak(c.code_point)) {
        const bool pair = bytes[end] == '\r' && end + 1 < bytes.size() && bytes[end + 1] == '\n';
        next = end + (pair ? 2 : c.bytes);
        break;
      }
      end += c.bytes;
    }
    Value line;
    if (!Piece(context, text, begin, keep_ends ? next : end, &line)) return false;
    lines->push_back(std::move(line));
    begin = next;
  }
  return true;
}

bool Pad(Context* context, const Str& text, int64_t width, const Str* fill, int where,
         Value* out) {
  if (fill != nullptr && fill->length != 1) {
    return context->Fail("The fill character must be exactly one character long");
  }
  const int64_t missing = std::max<int64_t>(0, width - text.length);
  if (missing > static_cast<int64_t>(context->limits().output_bytes_max)) {
    return context->Fail("the template makes a text that is too large", Failure::kLimit);
  }
  // Python's center puts the odd blank to the left when the width is odd.
  int64_t left = where < 0 ? missing : 0;
  if (where == 0) left = missing / 2 + (missing & width & 1);
  Builder builder(context);
  const auto blanks = [&](int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      if (fill != nullptr) {
        builder.Append(*fill);
      } else {
        builder.Literal(" ");
      }
    }
  };
  blanks(left);
  builder.Append(text);
  blanks(missing - left);
  return builder.Finish(out, text.safe);
}

}  // namespace lode::text::jinja
