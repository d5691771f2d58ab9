// Filters that make text of text.
#include <algorithm>
#include <cmath>
#include <iterator>

#include "base/text.h"
#include "base/utf8.h"
#include "text/template/bind.h"
#include "text/template/filters.h"
#include "text/template/format.h"
#include "text/template/ops.h"
#include "text/template/text_ops.h"

namespace lode::text::jinja {
namespace {

bool NoArguments(Context* context, const char* name, const Arguments& arguments) {
  return Bind(context, name, arguments, {}, 0, nullptr);
}

template <Case kTo>
bool ChangeCaseFilter(Context* context, const Value& value, const Arguments& arguments,
                      Value* result) {
  Value text;
  return NoArguments(context, "upper", arguments) && SoftStr(context, value, &text) &&
         ChangeCase(context, text.str(), kTo, result);
}

bool CapitalizeFilter(Context* context, const Value& value, const Arguments& arguments,
                      Value* result) {
  Value text;
  return NoArguments(context, "capitalize", arguments) && SoftStr(context, value, &text) &&
         Capitalize(context, text.str(), result);
}

// Unlike str.title(), a word begins after white space and some brackets only.
bool TitleFilter(Context* context, const Value& value, const Arguments& arguments,
                 Value* result) {
  Value text;
  if (!NoArguments(context, "title", arguments) || !SoftStr(context, value, &text)) return false;
  const Str& str = text.str();
  const auto is_border = [](char32_t c) {
    return c == '-' || c == '(' || c == '{' || c == '[' || c == '<' || IsSpace(c);
  };
  Builder builder(context);
  const auto put_piece = [&](size_t begin, size_t end, Case to) {
    Value piece;
    Value mapped;
    if (!Piece(context, str, begin, end, &piece) ||
        !ChangeCase(context, piece.str(), to, &mapped)) {
      return false;
    }
    builder.Append(mapped.str());
    return true;
  };
  for (size_t at = 0; at < str.bytes.size();) {
    const DecodedChar c = DecodeUtf8(str.bytes, at);
    if (is_border(c.code_point)) {
      builder.Append(str, at, at + c.bytes);
      at += c.bytes;
      continue;
    }
    const size_t rest = at + c.bytes;
    size_t end = rest;
    while (end < str.bytes.size()) {
      const DecodedChar next = DecodeUtf8(str.bytes, end);
      if (is_border(next.code_point)) break;
      end += next.bytes;
    }
    if (!put_piece(at, rest, Case::kUpper) || !put_piece(rest, end, Case::kLower)) return false;
    at = end;
  }
  return builder.Finish(result);
}

bool TrimFilter(Context* context, const Value& value, const Arguments& arguments,
                Value* result) {
  Value chars;
  Value text;
  if (!Bind(context, "trim", arguments, {"chars"}, 0, &chars)) return false;
  if (!SoftStr(context, value, &text)) return false;
  const bool given = !chars.missing() && !chars.none();
  if (given && chars.undefined()) return FailUndefined(context, chars);
  if (given && !chars.string()) return context->Fail("strip arg must be None or str");
  return Strip(context, text.str(), given ? &chars.str() : nullptr, true, true, result);
}

bool ReplaceFilter(Context* context, const Value& value, const Arguments& arguments,
                   Value* result) {
  Value bound[3];
  Value text;
  Value from;
  Value to;
  int64_t count = -1;
  return Bind(context, "replace", arguments, {"old", "new", "count"}, 2, bound) &&
         BindInt(context, bound[2], -1, true, &count) && ToStr(context, value, &text) &&
         ToStr(context, bound[0], &from) && ToStr(context, bound[1], &to) &&
         Replace(context, text.str(), from.str(), to.str(), count, false, result);
}

bool StringFilter(Context* context, const Value& value, const Arguments& arguments,
                  Value* result) {
  return NoArguments(context, "string", arguments) && SoftStr(context, value, result);
}

bool SafeFilter(Context* context, const Value& value, const Arguments& arguments,
                Value* result) {
  Value text;
  if (!NoArguments(context, "safe", arguments) || !SoftStr(context, value, &text)) return false;
  Builder builder(context);
  builder.Append(text.str());
  return builder.Finish(result, true);
}

bool EscapeFilter(Context* context, const Value& value, const Arguments& arguments,
                  Value* result) {
  return NoArguments(context, "escape", arguments) && Escape(context, value, result);
}

bool ForceEscapeFilter(Context* context, const Value& value, const Arguments& arguments,
                       Value* result) {
  Builder builder(context);
  Value text;
  return NoArguments(context, "forceescape", arguments) && ToText(context, value, &builder) &&
         builder.Finish(&text) && Escape(context, text, result);
}

bool CenterFilter(Context* context, const Value& value, const Arguments& arguments,
                  Value* result) {
  Value width_value;
  Value text;
  int64_t width = 80;
  return Bind(context, "center", arguments, {"width"}, 0, &width_value) &&
         BindInt(context, width_value, 80, false, &width) && SoftStr(context, value, &text) &&
         Pad(context, text.str(), width, nullptr, 0, result);
}

bool NeedString(Context* context, const char* filter, const Value& value) {
  if (value.undefined()) return FailUndefined(context, value);
  return value.string() || context->Fail(std::string("the filter ") + filter +
                                         " needs a str, not " + TypeName(value));
}

bool IndentFilter(Context* context, const Value& value, const Arguments& arguments,
                  Value* result) {
  Value bound[3];
  int64_t width = 4;
  if (!Bind(context, "indent", arguments, {"width", "first", "blank"}, 0, bound) ||
      !NeedString(context, "indent", value)) {
    return false;
  }
  Value indent;
  if (bound[0].string()) {
    indent = bound[0];
  } else {
    if (!BindInt(context, bound[0], 4, false, &width)) return false;
    if (width > static_cast<int64_t>(context->limits().output_bytes_max)) {
      return context->Fail("the template makes a text that is too large", Failure::kLimit);
    }
    const auto blanks = static_cast<size_t>(std::max<int64_t>(0, width));
    if (!context->Make(std::string(blanks, ' '), {}, false, &indent)) return false;
  }
  const bool blank = Truth(bound[2]);
  std::vector<Value> lines;
  // The newline makes sure of a last line; splitlines then takes it away again.
  Builder with_newline(context);
  with_newline.Append(value.str());
  with_newline.Literal("\n");
  Value text;
  if (!with_newline.Finish(&text, value.str().safe) ||
      !SplitLines(context, text.str(), false, &lines)) {
    return false;
  }
  Builder builder(context);
  if (Truth(bound[1])) builder.Append(indent.str());
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) {
      builder.Literal("\n");
      if (blank || !lines[i].text().empty()) builder.Append(indent.str());
    }
    builder.Append(lines[i].str());
  }
  return builder.Finish(result, value.str().safe);
}

bool TruncateFilter(Context* context, const Value& value, const Arguments& arguments,
                    Value* result) {
  Value bound[4];
  int64_t length = 255;
  int64_t leeway = 5;
  if (!Bind(context, "truncate", arguments, {"length", "killwords", "end", "leeway"}, 0, bound) ||
      !BindInt(context, bound[0], 255, false, &length) ||
      !BindInt(context, bound[3], 5, true, &leeway)) {
    return false;
  }
  const Value end = bound[2].missing() ? context->Text("...") : bound[2];
  if (!NeedString(context, "truncate", end)) return false;
  if (length < end.str().length) return context->Fail("truncate: the length is below the end's");
  if (leeway < 0) return context->Fail("truncate: the leeway is negative");
  int64_t size = 0;
  if (!Length(context, value, &size)) return false;
  if (size <= length + leeway) {
    *result = value;  // whatever it is
    return true;
  }
  if (!NeedString(context, "truncate", value)) return false;
  const Str& text = value.str();
  size_t cut = OffsetOf(text.bytes, length - end.str().length);
  if (!Truth(bound[1])) {
    const size_t space = std::string_view(text.bytes).substr(0, cut).rfind(' ');
    if (space != std::string_view::npos) cut = space;
  }
  Value head;
  return Piece(context, text, 0, cut, &head) &&
         Calculate(context, Arithmetic::kAdd, head, end, result);
}

bool WordCountFilter(Context* context, const Value& value, const Arguments& arguments,
                     Value* result) {
  Value text;
  if (!NoArguments(context, "wordcount", arguments) || !SoftStr(context, value, &text)) {
    return false;
  }
  int64_t words = 0;
  bool inside = false;
  for (size_t at = 0; at < text.text().size();) {
    const DecodedChar c = DecodeUtf8(text.text(), at);
    const bool word = IsWord(c.code_point);
    words += word && !inside;
    inside = word;
    at += c.bytes;
  }
  *result = Value::OfInt(words);
  return true;
}

bool FormatFilter(Context* context, const Value& value, const Arguments& arguments,
                  Value* result) {
  Value text;
  Value given;
  if (!SoftStr(context, value, &text)) return false;
  if (!arguments.positional.empty() && !arguments.named.empty()) {
    return context->Fail("can't handle positional and keyword arguments at the same time");
  }
  if (!arguments.named.empty()) {
    Ref<Dict> dict(new Dict);
    for (const auto& [name, item] : arguments.named) {
      const Value key = context->Text(name);
      size_t hash = 0;
      if (!Hash(context, key, &hash)) return false;
      dict->Insert(key, hash, item);
    }
    if (!context->MakeDict(dict, &given)) return false;
  } else if (!context->MakeList(arguments.positional, &given, Type::kTuple)) {
    return false;
  }
  return PercentFormat(context, text.str(), given, result);
}

// Percent-encodes for a URL's path, or for a query.
bool Quoted(Context* context, const Value& value, bool query, Builder* out) {
  Value text;
  if (!ToStr(context, value, &text)) return false;
  const Str& str = text.str();
  for (size_t at = 0; at < str.bytes.size(); ++at) {
    const char c = str.bytes[at];
    const bool plain = std::isalnum(static_cast<unsigned char>(c)) ||
                       std::string_view("_.-~").find(c) != std::string_view::npos ||
                       (c == '/' && !query);
    if (plain) {
      out->Append(str, at, at + 1);
    } else if (c == ' ' && query) {
      out->Literal("+", IsInput(str, at));
    } else {
      out->Literal(Format("%%%02X", static_cast<unsigned char>(c)), IsInput(str, at));
    }
  }
  return true;
}

bool UrlEncodeFilter(Context* context, const Value& value, const Arguments& arguments,
                     Value* result) {
  if (!NoArguments(context, "urlencode", arguments)) return false;
  Builder builder(context);
  const bool scalar = value.string() || value.none() || value.number();
  if (scalar) return Quoted(context, value, false, &builder) && builder.Finish(result);
  std::vector<Value> pairs;
  Value source = value;
  if (value.is(Type::kDict)) {
    auto* view = new View;
    view->dict = Ref<Dict>(static_cast<Dict*>(value.object()));
    view->part = View::Part::kItems;
    if (!context->Adopt(Type::kView, view, sizeof(View), value.depth() + 1, &source)) return false;
  }
  if (!Collect(context, source, &pairs)) return false;
  for (size_t i = 0; i < pairs.size(); ++i) {
    std::vector<Value> pair;
    if (!Collect(context, pairs[i], &pair)) return false;
    if (pair.size() != 2) return context->Fail("urlencode needs pairs of key and value");
    if (i > 0) builder.Literal("&");
    if (!Quoted(context, pair[0], true, &builder)) return false;
    builder.Literal("=");
    if (!Quoted(context, pair[1], true, &builder)) return false;
  }
  return builder.Finish(result);
}

bool XmlAttrFilter(Context* context, const Value& value, const Arguments& arguments,
                   Value* result) {
  Value space;
  if (!Bind(context, "xmlattr", arguments, {"autospace"}, 0, &space)) return false;
  if (!value.is(Type::kDict)) return context->Fail("xmlattr needs a dict");
  Builder builder(context);
  bool first = true;
  for (const auto& [key, item] : value.dict().items) {
    if (item.none() || item.undefined()) continue;
    if (!key.string() ||
        key.text().find_first_of(" \t\n\r\f\v/>=") != std::string_view::npos) {
      return context->Fail("Invalid character in attribute name");
    }
    Value name;
    Value text;
    if (!Escape(context, key, &name) || !Escape(context, item, &text)) return false;
    if (!first || space.missing() || Truth(space)) builder.Literal(" ");
    first = false;
    builder.Append(name.str());
    builder.Literal("=\"");
    builder.Append(text.str());
    builder.Literal("\"");
  }
  return builder.Finish(result);
}

bool FileSizeFilter(Context* context, const Value& value, const Arguments& arguments,
                    Value* result) {
  Value binary;
  if (!Bind(context, "filesizeformat", arguments, {"binary"}, 0, &binary)) return false;
  double bytes = 0;
  if (value.number()) {
    bytes = value.AsDouble();
  } else if (!value.string() || !ParseDouble(value.text(), &bytes)) {
    return context->Fail("filesizeformat needs a number");
  }
  const double base = Truth(binary) ? 1024 : 1000;
  std::string text;
  if (bytes == 1) {
    text = "1 Byte";
  } else if (bytes < base) {
    text = Format("%.0f Bytes", std::trunc(bytes));
  } else {
    static constexpr const char* kUnits = "kMGTPEZY";
    double unit = base * base;
    int i = 0;
    for (; i < 7 && bytes >= unit; ++i) unit *= base;
    const char letter = i == 0 && Truth(binary) ? 'K' : kUnits[i];
    text = Format("%.1f %c%s", base * bytes / unit, letter, Truth(binary) ? "iB" : "B");
  }
  *result = context->Text(text, value.input());
  return true;
}

// The references that escaping writes, and numeric ones.
bool Unescape(Context* context, const Str& text, Value* result) {
  static constexpr std::pair<std::string_view, std::string_view> kNames[] = {
      {"&amp;", "&"}, {"&lt;", "<"}, {"&gt;", ">"}, {"&quot;", "\""}, {"&nbsp;", "\xC2\xA0"}};
  Builder builder(context);
  for (size_t at = 0; at < text.bytes.size();) {
    const size_t amp = std::min(text.bytes.find('&', at), text.bytes.size());
    builder.Append(text, at, amp);
    if (amp == text.bytes.size()) break;
    const auto rest = std::string_view(text.bytes).substr(amp);
    const auto* name = std::find_if(std::begin(kNames), std::end(kNames), [&](const auto& pair) {
      return rest.substr(0, pair.first.size()) == pair.first;
    });
    const size_t semicolon = rest.substr(0, 10).find(';');
    int64_t code = -1;
    if (rest.size() > 2 && rest[1] == '#' && semicolon != std::string_view::npos) {
      const bool hex = (rest[2] | 0x20) == 'x';
      const std::string digits(rest.substr(hex ? 3 : 2, semicolon - (hex ? 3 : 2)));
      char* end = nullptr;
      code = std::strtol(digits.c_str(), &end, hex ? 16 : 10);
      if (digits.empty() || *end != '\0' || code > 0x10FFFF) code = -1;
    }
    if (name != std::end(kNames)) {
      builder.Literal(name->second, IsInput(text, amp));
      at = amp + name->first.size();
    } else if (code > 0 && (code < 0xD800 || code > 0xDFFF)) {
      builder.Char(static_cast<char32_t>(code), IsInput(text, amp));
      at = amp + semicolon + 1;
    } else {
      builder.Append(text, amp, amp + 1);
      at = amp + 1;
    }
  }
  return builder.Finish(result);
}

bool StripTagsFilter(Context* context, const Value& value, const Arguments& arguments,
                     Value* result) {
  Value text;
  if (!NoArguments(context, "striptags", arguments) || !ToStr(context, value, &text)) return false;
  const Str& str = text.str();
  Builder builder(context);
  size_t at = 0;
  for (;;) {
    const size_t open = str.bytes.find('<', at);
    if (open == std::string::npos) break;
    const bool comment = str.bytes.compare(open, 4, "<!--") == 0;
    const size_t close = str.bytes.find(comment ? "-->" : ">", comment ? open + 4 : open);
    if (close == std::string::npos) break;
    builder.Append(str, at, open);
    at = close + (comment ? 3 : 1);
  }
  builder.Append(str, at, str.bytes.size());
  Value plain;
  std::vector<Value> words;
  if (!builder.Finish(&plain) ||
      !SplitText(context, plain.str(), nullptr, -1, false, &words)) {
    return false;
  }
  Builder joined(context);
  for (size_t i = 0; i < words.size(); ++i) {
    if (i > 0) joined.Literal(" ");
    joined.Append(words[i].str());
  }
  return joined.Finish(&plain) && Unescape(context, plain.str(), result);
}

constexpr FilterDef kFilters[] = {
    {"capitalize", CapitalizeFilter},
    {"center", CenterFilter},
    {"e", EscapeFilter},
    {"escape", EscapeFilter},
    {"filesizeformat", FileSizeFilter},
    {"forceescape", ForceEscapeFilter},
    {"format", FormatFilter},
    {"indent", IndentFilter},
    {"lower", ChangeCaseFilter<Case::kLower>},
    {"replace", ReplaceFilter},
    {"safe", SafeFilter},
    {"string", StringFilter},
    {"striptags", StripTagsFilter},
    {"title", TitleFilter},
    {"trim", TrimFilter},
    {"truncate", TruncateFilter},
    {"upper", ChangeCaseFilter<Case::kUpper>},
    {"urlencode", UrlEncodeFilter},
    {"wordcount", WordCountFilter},
    {"xmlattr", XmlAttrFilter},
};

}  // namespace

FilterTable TextFilters() { return {std::begin(kFilters), std::end(kFilters)}; }

}  // namespace lode::text::jinja
