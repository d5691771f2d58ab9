// The methods of Python's str, as templates see them.
#include <algorithm>
#include <string>
#include <unordered_map>

#include "base/utf8.h"
#include "text/template/bind.h"
#include "text/template/format.h"
#include "text/template/methods.h"
#include "text/template/ops.h"
#include "text/template/text_ops.h"

namespace lode::text::jinja {
namespace {

bool NeedText(Context* context, const char* method, const Value& value, const Str** out) {
  if (value.undefined()) return FailUndefined(context, value);
  if (!value.string()) {
    return context->Fail(std::string(method) + "() needs a str, not " + TypeName(value));
  }
  *out = &value.str();
  return true;
}

// For an optional argument where none means "not given".
bool MaybeText(Context* context, const char* method, const Value& value, const Str** out) {
  *out = nullptr;
  return value.missing() || value.none() || NeedText(context, method, value, out);
}

bool NoArguments(Context* context, const char* method, const Arguments& arguments) {
  return Bind(context, method, arguments, {}, 0, nullptr);
}

template <bool kLeft, bool kRight>
bool StripMethod(Context* context, const Value& self, const Arguments& arguments, Value* result) {
  Value bound;
  const Str* chars = nullptr;
  return Bind(context, "strip", arguments, {""}, 0, &bound) &&
         MaybeText(context, "strip", bound, &chars) &&
         Strip(context, self.str(), chars, kLeft, kRight, result);
}

template <bool kRight>
bool SplitMethod(Context* context, const Value& self, const Arguments& arguments, Value* result) {
  Value bound[2];
  const Str* separator = nullptr;
  int64_t splits_max = -1;
  std::vector<Value> parts;
  return Bind(context, "split", arguments, {"sep", "maxsplit"}, 0, bound) &&
         MaybeText(context, "split", bound[0], &separator) &&
         BindInt(context, bound[1], -1, false, &splits_max) &&
         SplitText(context, self.str(), separator, splits_max, kRight, &parts) &&
         context->MakeList(std::move(parts), result);
}

bool SplitLinesMethod(Context* context, const Value& self, const Arguments& arguments,
                      Value* result) {
  Value keep;
  std::vector<Value> lines;
  return Bind(context, "splitlines", arguments, {"keepends"}, 0, &keep) &&
         SplitLines(context, self.str(), Truth(keep), &lines) &&
         context->MakeList(std::move(lines), result);
}

template <bool kRight>
bool PartitionMethod(Context* context, const Value& self, const Arguments& arguments,
                     Value* result) {
  Value bound;
  const Str* separator = nullptr;
  if (!Bind(context, "partition", arguments, {""}, 1, &bound) ||
      !NeedText(context, "partition", bound, &separator)) {
    return false;
  }
  if (separator->bytes.empty()) return context->Fail("empty separator");
  const Str& text = self.str();
  const size_t size = text.bytes.size();
  if (!context->Step(size)) return false;
  size_t hit = kRight ? 0 : FindBytes(text.bytes, separator->bytes);
  if (kRight && !FindBytesFromRight(context, text.bytes, separator->bytes, &hit)) return false;
  size_t begin = hit;
  size_t end = hit + separator->bytes.size();
  if (hit == std::string::npos) begin = end = kRight ? 0 : size;
  std::vector<Value> parts(3);
  return Piece(context, text, 0, begin, &parts[0]) &&
         Piece(context, text, begin, end, &parts[1]) &&
         Piece(context, text, end, size, &parts[2]) &&
         context->MakeList(std::move(parts), result, Type::kTuple);
}

// The byte range that the optional character indices start and end cut out of `text`.
bool Window(Context* context, const Str& text, const Value& start, const Value& end,
            size_t* begin_byte, size_t* end_byte, bool* empty) {
  int64_t first = 0;
  int64_t last = 0;
  if (!BindInt(context, start, 0, true, &first) ||
      !BindInt(context, end, text.length, true, &last)) {
    return false;
  }
  if (first < 0) first = std::max<int64_t>(0, first + text.length);
  if (last < 0) last = std::max<int64_t>(0, last + text.length);
  *empty = first > text.length;  // not even the empty string is found there
  last = std::min(last, text.length);
  first = std::min(first, text.length);
  if (last < first) {
    *empty = true;
    last = first;
  }
  *begin_byte = OffsetOf(text.bytes, first);
  *end_byte = *begin_byte + OffsetOf(std::string_view(text.bytes).substr(*begin_byte), last - first);
  return true;
}

template <bool kEnd>
bool StartsOrEnds(Context* context, const Value& self, const Arguments& arguments,
                  Value* result) {
  Value bound[3];
  size_t begin = 0;
  size_t end = 0;
  bool empty = false;
  if (!Bind(context, "startswith", arguments, {"", "", ""}, 1, bound) ||
      !Window(context, self.str(), bound[1], bound[2], &begin, &end, &empty)) {
    return false;
  }
  const auto window = std::string_view(self.str().bytes).substr(begin, end - begin);
  const auto matches = [&](const Str& part) {
    if (empty || part.bytes.size() > window.size()) return false;
    const size_t at = kEnd ? window.size() - part.bytes.size() : 0;
    return window.compare(at, part.bytes.size(), part.bytes) == 0;
  };
  bool hit = false;
  if (bound[0].is(Type::kTuple)) {
    for (const auto& item : bound[0].list().items) {
      const Str* part = nullptr;
      if (!NeedText(context, "startswith", item, &part)) return false;
      hit = hit || matches(*part);
    }
  } else {
    const Str* part = nullptr;
    if (!NeedText(context, "startswith", bound[0], &part)) return false;
    hit = matches(*part);
  }
  *result = Value::Bool(hit);
  return true;
}

// find, rfind, index, rindex.
template <bool kRight, bool kMustFind>
bool FindText(Context* context, const Value& self, const Arguments& arguments, Value* result) {
  Value bound[3];
  const Str* part = nullptr;
  size_t begin = 0;
  size_t end = 0;
  bool empty = false;
  const Str& text = self.str();
  if (!Bind(context, "find", arguments, {"", "", ""}, 1, bound) ||
      !NeedText(context, "find", bound[0], &part) ||
      !Window(context, text, bound[1], bound[2], &begin, &end, &empty) ||
      !context->Step(text.bytes.size())) {
    return false;
  }
  const auto window = std::string_view(text.bytes).substr(begin, end - begin);
  size_t hit = std::string_view::npos;
  if (!empty && kRight && !FindBytesFromRight(context, window, part->bytes, &hit)) return false;
  if (!empty && !kRight) hit = FindBytes(window, part->bytes);
  if (hit == std::string_view::npos) {
    if (kMustFind) return context->Fail("substring not found");
    *result = Value::OfInt(-1);
    return true;
  }
  *result = Value::OfInt(CountChars(std::string_view(text.bytes).substr(0, begin + hit)));
  return true;
}

bool CountText(Context* context, const Value& self, const Arguments& arguments, Value* result) {
  Value bound[3];
  const Str* part = nullptr;
  size_t begin = 0;
  size_t end = 0;
  bool empty = false;
  const Str& text = self.str();
  if (!Bind(context, "count", arguments, {"", "", ""}, 1, bound) ||
      !NeedText(context, "count", bound[0], &part) ||
      !Window(context, text, bound[1], bound[2], &begin, &end, &empty) ||
      !context->Step(text.bytes.size())) {
    return false;
  }
  const auto window = std::string_view(text.bytes).substr(begin, end - begin);
  int64_t count = 0;
  if (empty) {
    count = 0;
  } else if (part->bytes.empty()) {
    count = CountChars(window) + 1;
  } else {
    for (size_t at = FindBytes(window, part->bytes); at != std::string_view::npos;
         at = FindBytes(window, part->bytes, at + part->bytes.size())) {
      ++count;
    }
  }
  *result = Value::OfInt(count);
  return true;
}

bool ReplaceMethod(Context* context, const Value& self, const Arguments& arguments,
                   Value* result) {
  Value bound[3];
  const Str* from = nullptr;
  const Str* to = nullptr;
  int64_t count = -1;
  if (!Bind(context, "replace", arguments, {"", "", ""}, 2, bound) ||
      !NeedText(context, "replace", bound[0], &from) ||
      !NeedText(context, "replace", bound[1], &to) ||
      !BindInt(context, bound[2], -1, false, &count)) {
    return false;
  }
  const bool safe = self.str().safe;
  if (safe && !Escape(context, bound[1], &bound[1])) return false;
  return Replace(context, self.str(), *from, bound[1].str(), count, safe, result);
}

template <bool kSuffix>
bool RemoveAffix(Context* context, const Value& self, const Arguments& arguments, Value* result) {
  Value bound;
  const Str* part = nullptr;
  if (!Bind(context, "removeprefix", arguments, {""}, 1, &bound) ||
      !NeedText(context, "removeprefix", bound, &part)) {
    return false;
  }
  const Str& text = self.str();
  size_t begin = 0;
  size_t end = text.bytes.size();
  const size_t size = part->bytes.size();
  if (size <= end && text.bytes.compare(kSuffix ? end - size : 0, size, part->bytes) == 0) {
    if (kSuffix) {
      end -= size;
    } else {
      begin = size;
    }
  }
  return Piece(context, text, begin, end, result);
}

template <Case kTo>
bool CaseMethod(Context* context, const Value& self, const Arguments& arguments, Value* result) {
  return NoArguments(context, "upper", arguments) &&
         ChangeCase(context, self.str(), kTo, result);
}

bool CapitalizeMethod(Context* context, const Value& self, const Arguments& arguments,
                      Value* result) {
  return NoArguments(context, "capitalize", arguments) &&
         Capitalize(context, self.str(), result);
}

// One pass that maps each character by what came before it.
template <typename Choose>
bool MapByNeighbour(Context* context, const Str& text, Choose choose, Value* result) {
  Builder builder(context);
  bool cased_before = false;
  for (size_t at = 0; at < text.bytes.size();) {
    const DecodedChar c = DecodeUtf8(text.bytes, at);
    char32_t mapped[3];
    const int count = MapCase(c.code_point, choose(c.code_point, cased_before), mapped);
    for (int i = 0; i < count; ++i) builder.Char(mapped[i], IsInput(text, at));
    cased_before = IsCased(c.code_point);
    at += c.bytes;
  }
  return builder.Finish(result, text.safe);
}

bool TitleMethod(Context* context, const Value& self, const Arguments& arguments, Value* result) {
  return NoArguments(context, "title", arguments) &&
         MapByNeighbour(
             context, self.str(),
             [](char32_t, bool cased) { return cased ? Case::kLower : Case::kTitle; }, result);
}

bool SwapCaseMethod(Context* context, const Value& self, const Arguments& arguments,
                    Value* result) {
  return NoArguments(context, "swapcase", arguments) &&
         MapByNeighbour(
             context, self.str(),
             [](char32_t c, bool) { return IsUpper(c) ? Case::kLower : Case::kUpper; }, result);
}

template <int kWhere>
bool PadMethod(Context* context, const Value& self, const Arguments& arguments, Value* result) {
  Value bound[2];
  int64_t width = 0;
  const Str* fill = nullptr;
  return Bind(context, "center", arguments, {"", ""}, 1, bound) &&
         BindInt(context, bound[0], 0, false, &width) &&
         (bound[1].missing() || NeedText(context, "center", bound[1], &fill)) &&
         Pad(context, self.str(), width, fill, kWhere, result);
}

bool ZeroFill(Context* context, const Value& self, const Arguments& arguments, Value* result) {
  Value bound;
  int64_t width = 0;
  if (!Bind(context, "zfill", arguments, {""}, 1, &bound) ||
      !BindInt(context, bound, 0, false, &width)) {
    return false;
  }
  const Str& text = self.str();
  const bool sign = !text.bytes.empty() && (text.bytes[0] == '+' || text.bytes[0] == '-');
  const int64_t zeros = std::max<int64_t>(0, width - text.length);
  if (zeros > static_cast<int64_t>(context->limits().output_bytes_max)) {
    return context->Fail("the template makes a text that is too large", Failure::kLimit);
  }
  Builder builder(context);
  builder.Append(text, 0, sign ? 1 : 0);
  builder.Literal(std::string(static_cast<size_t>(zeros), '0'));
  builder.Append(text, sign ? 1 : 0, text.bytes.size());
  return builder.Finish(result, text.safe);
}

bool ExpandTabs(Context* context, const Value& self, const Arguments& arguments, Value* result) {
  Value bound;
  int64_t size = 8;
  if (!Bind(context, "expandtabs", arguments, {"tabsize"}, 0, &bound) ||
      !BindInt(context, bound, 8, false, &size)) {
    return false;
  }
  if (size > static_cast<int64_t>(context->limits().output_bytes_max)) {
    return context->Fail("the template makes a text that is too large", Failure::kLimit);
  }
  const Str& text = self.str();
  Builder builder(context);
  int64_t column = 0;
  for (size_t at = 0; at < text.bytes.size() && !builder.overflow();) {
    const int bytes = DecodeUtf8(text.bytes, at).bytes;
    if (text.bytes[at] == '\t') {
      const int64_t blanks = size > 0 ? size - column % size : 0;
      builder.Literal(std::string(static_cast<size_t>(blanks), ' '), IsInput(text, at));
      column += blanks;
    } else {
      builder.Append(text, at, at + bytes);
      column = text.bytes[at] == '\n' || text.bytes[at] == '\r' ? 0 : column + 1;
    }
    at += bytes;
  }
  return builder.Finish(result, text.safe);
}

bool JoinMethod(Context* context, const Value& self, const Arguments& arguments, Value* result) {
  Value bound;
  std::vector<Value> items;
  if (!Bind(context, "join", arguments, {""}, 1, &bound)) return false;
  if (bound.undefined()) return context->Make("", {}, self.str().safe, result);
  if (!Collect(context, bound, &items)) return false;
  Builder builder(context);
  for (size_t i = 0; i < items.size(); ++i) {
    if (i > 0) builder.Append(self.str());
    Value item = items[i];
    if (self.str().safe) {
      if (!Escape(context, items[i], &item)) return false;
    } else if (!item.string()) {
      return context->Fail("sequence item " + std::to_string(i) + ": expected str instance, " +
                           TypeName(item) + " found");
    }
    builder.Append(item.str());
  }
  return builder.Finish(result, self.str().safe);
}

// All characters pass, and there is at least one.
template <bool (*kTest)(char32_t)>
bool AllMethod(Context* context, const Value& self, const Arguments& arguments, Value* result) {
  if (!NoArguments(context, "isalpha", arguments)) return false;
  const std::string& bytes = self.str().bytes;
  bool all = !bytes.empty();
  for (size_t at = 0; at < bytes.size() && all;) {
    const DecodedChar c = DecodeUtf8(bytes, at);
    all = kTest(c.code_point);
    at += c.bytes;
  }
  *result = Value::Bool(all);
  return context->Step(bytes.size());
}

bool IsPrintableMethod(Context* context, const Value& self, const Arguments& arguments,
                       Value* result) {
  if (!AllMethod<IsPrintable>(context, self, arguments, result)) return false;
  if (self.str().bytes.empty()) *result = Value::Bool(true);
  return true;
}

bool IsAsciiMethod(Context* context, const Value& self, const Arguments& arguments,
                   Value* result) {
  *result = Value::Bool(self.str().ascii());
  return NoArguments(context, "isascii", arguments);
}

bool IsIdentifierMethod(Context* context, const Value& self, const Arguments& arguments,
                        Value* result) {
  if (!AllMethod<IsIdentifierPart>(context, self, arguments, result)) return false;
  if (result->boolean() && !IsIdentifierStart(DecodeUtf8(self.str().bytes, 0).code_point)) {
    *result = Value::Bool(false);
  }
  return true;
}

template <bool kUpper>
bool IsCaseMethod(Context* context, const Value& self, const Arguments& arguments,
                  Value* result) {
  *result = Value::Bool(HasCase(self.str(), kUpper));
  return NoArguments(context, "isupper", arguments) && context->Step(self.str().bytes.size());
}

bool IsTitleMethod(Context* context, const Value& self, const Arguments& arguments,
                   Value* result) {
  if (!NoArguments(context, "istitle", arguments)) return false;
  const std::string& bytes = self.str().bytes;
  bool title = true;
  bool any = false;
  bool cased_before = false;
  for (size_t at = 0; at < bytes.size() && title;) {
    const DecodedChar c = DecodeUtf8(bytes, at);
    at += c.bytes;
    const bool big = IsUpper(c.code_point) || IsTitle(c.code_point);
    const bool small = IsLower(c.code_point);
    if (big) title = !cased_before;
    if (small) title = cased_before;
    any = any || big || small;
    cased_before = big || small;
  }
  *result = Value::Bool(title && any);
  return context->Step(bytes.size());
}

bool FormatMethod(Context* context, const Value& self, const Arguments& arguments,
                  Value* result) {
  return BraceFormat(context, self.str(), arguments, result);
}

bool FormatMapMethod(Context* context, const Value& self, const Arguments& arguments,
                     Value* result) {
  Value bound;
  if (!Bind(context, "format_map", arguments, {""}, 1, &bound)) return false;
  if (!bound.is(Type::kDict)) return context->Fail("format_map() needs a dict");
  Arguments named;
  for (const auto& [key, value] : bound.dict().items) {
    if (key.string()) named.named.emplace_back(key.text(), value);
  }
  return BraceFormat(context, self.str(), named, result);
}

}  // namespace

bool HasCase(const Str& text, bool upper) {
  bool any = false;
  for (size_t at = 0; at < text.bytes.size();) {
    const DecodedChar c = DecodeUtf8(text.bytes, at);
    at += c.bytes;
    const bool wanted = upper ? IsUpper(c.code_point) : IsLower(c.code_point);
    if (IsCased(c.code_point) && !wanted) return false;
    any = any || wanted;
  }
  return any;
}

Method LookUpStrMethod(std::string_view name) {
  static const auto* methods = new std::unordered_map<std::string_view, Method>{
      {"strip", StripMethod<true, true>},
      {"lstrip", StripMethod<true, false>},
      {"rstrip", StripMethod<false, true>},
      {"split", SplitMethod<false>},
      {"rsplit", SplitMethod<true>},
      {"splitlines", SplitLinesMethod},
      {"partition", PartitionMethod<false>},
      {"rpartition", PartitionMethod<true>},
      {"startswith", StartsOrEnds<false>},
      {"endswith", StartsOrEnds<true>},
      {"find", FindText<false, false>},
      {"rfind", FindText<true, false>},
      {"index", FindText<false, true>},
      {"rindex", FindText<true, true>},
      {"count", CountText},
      {"replace", ReplaceMethod},
      {"removeprefix", RemoveAffix<false>},
      {"removesuffix", RemoveAffix<true>},
      {"upper", CaseMethod<Case::kUpper>},
      {"lower", CaseMethod<Case::kLower>},
      {"casefold", CaseMethod<Case::kFold>},
      {"capitalize", CapitalizeMethod},
      {"title", TitleMethod},
      {"swapcase", SwapCaseMethod},
      {"center", PadMethod<0>},
      {"ljust", PadMethod<1>},
      {"rjust", PadMethod<-1>},
      {"zfill", ZeroFill},
      {"expandtabs", ExpandTabs},
      {"join", JoinMethod},
      {"format", FormatMethod},
      {"format_map", FormatMapMethod},
      {"isalpha", AllMethod<IsAlpha>},
      {"isalnum", AllMethod<IsAlnum>},
      {"isdecimal", AllMethod<IsDecimal>},
      {"isdigit", AllMethod<IsDigit>},
      {"isnumeric", AllMethod<IsNumeric>},
      {"isspace", AllMethod<IsSpace>},
      {"isprintable", IsPrintableMethod},
      {"isascii", IsAsciiMethod},
      {"isidentifier", IsIdentifierMethod},
      {"isupper", IsCaseMethod<true>},
      {"islower", IsCaseMethod<false>},
      {"istitle", IsTitleMethod},
  };
  const auto found = methods->find(name);
  return found == methods->end() ? nullptr : found->second;
}

}  // namespace lode::text::jinja
