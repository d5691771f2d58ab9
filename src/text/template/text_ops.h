// Operations on strings that filters and methods share. All keep track of input bytes. Internal.
#pragma once

#include <vector>

#include "text/template/context.h"
#include "text/template/unicode.h"
#include "text/template/value.h"

namespace lode::text::jinja {

// Both ends' white space, or any of the characters in `chars`.
bool Strip(Context* context, const Str& text, const Str* chars, bool left, bool right, Value* out);
// The first `count` occurrences; all when it is negative.
bool Replace(Context* context, const Str& text, const Str& from, const Str& to, int64_t count,
             bool safe, Value* out);
bool ChangeCase(Context* context, const Str& text, Case to, Value* out);
bool Capitalize(Context* context, const Str& text, Value* out);
// Splits at white space (separator null) or at a separator; `splits_max` < 0 is no limit.
bool SplitText(Context* context, const Str& text, const Str* separator, int64_t splits_max,
               bool from_right, std::vector<Value>* parts);
bool SplitLines(Context* context, const Str& text, bool keep_ends, std::vector<Value>* lines);
// Pads to `width` characters; where: -1 pads left (rjust), 0 both (center), 1 right (ljust).
bool Pad(Context* context, const Str& text, int64_t width, const Str* fill, int where, Value* out);
// Like std::string_view::find, but linear in the worst case too.
size_t FindBytes(std::string_view text, std::string_view part, size_t from = 0);
// Like rfind; charges its worst case, which is not linear.
bool FindBytesFromRight(Context* context, std::string_view text, std::string_view part,
                        size_t* hit);
// Python's isupper/islower.
bool HasCase(const Str& text, bool upper);
// Bytes [begin, end) as a string of the same safety.
bool Piece(Context* context, const Str& text, size_t begin, size_t end, Value* out);

}  // namespace lode::text::jinja
