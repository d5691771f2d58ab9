#include "text/template/json_dump.h"

#include <cmath>

#include "base/utf8.h"
#include "text/template/ops.h"

namespace lode::text::jinja {
namespace {

class Dumper {
 public:
  Dumper(Context* context, const JsonStyle& style)
      : context_(context), style_(style), out_(context) {}

  bool Run(const Value& value, Value* result) {
    return Put(value, 0) && out_.Finish(result);
  }

 private:
  bool Put(const Value& value, int level) {
    if (!context_->Step() || !context_->CheckStack()) return false;
    if (out_.overflow()) return true;  // Finish reports it
    switch (value.type()) {
      case Type::kNone:
      case Type::kBool:
      case Type::kInt:
      case Type::kFloat:
        out_.Literal(ScalarText(value), value.input());
        return true;
      case Type::kString:
        return PutString(value.str());
      case Type::kList:
      case Type::kTuple:
        return PutList(value.list(), level);
      case Type::kDict:
        return PutDict(value.dict(), level);
      default:
        return context_->Fail(std::string("Object of type ") + TypeName(value) +
                              " is not JSON serializable");
    }
  }

  static std::string ScalarText(const Value& value) {
    if (value.none()) return "null";
    if (value.is(Type::kBool)) return value.boolean() ? "true" : "false";
    if (value.is(Type::kInt)) return IntText(value.integer());
    if (std::isnan(value.real())) return "NaN";
    if (std::isinf(value.real())) return value.real() < 0 ? "-Infinity" : "Infinity";
    return FloatText(value.real());
  }

  bool PutString(const Str& text) {
    const std::string& bytes = text.bytes;
    if (!context_->Step(bytes.size())) return false;
    out_.Literal("\"");
    size_t plain = 0;
    for (size_t at = 0; at < bytes.size() && !out_.overflow();) {
      const auto byte = static_cast<unsigned char>(bytes[at]);
      const bool escape = byte < 0x20 || byte == '"' || byte == '\\' ||
                          (style_.ascii_only && byte >= 0x7F);
      if (!escape) {
        ++at;
        continue;
      }
      out_.Append(text, plain, at);
      const DecodedChar c = DecodeUtf8(bytes, at);
      out_.Literal(Escaped(c.code_point), IsInput(text, at));
      at += c.bytes;
      plain = at;
    }
    out_.Append(text, plain, bytes.size());
    out_.Literal("\"");
    return true;
  }

  static std::string Escaped(char32_t c) {
    switch (c) {
      case '"':
        return "\\\"";
      case '\\':
        return "\\\\";
      case '\n':
        return "\\n";
      case '\r':
        return "\\r";
      case '\t':
        return "\\t";
      case '\b':
        return "\\b";
      case '\f':
        return "\\f";
      default:
        break;
    }
    char text[16];
    if (c < 0x10000) {
      std::snprintf(text, sizeof text, "\\u%04x", static_cast<unsigned>(c));
    } else {
      const unsigned high = 0xD800 + ((static_cast<unsigned>(c) - 0x10000) >> 10);
      const unsigned low = 0xDC00 + ((static_cast<unsigned>(c) - 0x10000) & 0x3FF);
      std::snprintf(text, sizeof text, "\\u%04x\\u%04x", high, low);
    }
    return text;
  }

  void NewLine(int level) {
    if (!style_.indented) return;
    out_.Literal("\n");
    for (int i = 0; i < level; ++i) out_.Literal(style_.indent);
  }

  void ItemSeparator() {
    if (!style_.item_separator.missing()) {
      out_.Append(style_.item_separator.str());
    } else {
      out_.Literal(style_.indented ? "," : ", ");
    }
  }

  void KeySeparator() {
    if (!style_.key_separator.missing()) {
      out_.Append(style_.key_separator.str());
    } else {
      out_.Literal(": ");
    }
  }

  bool PutList(const List& list, int level) {
    if (list.items.empty()) {
      out_.Literal("[]");
      return true;
    }
    out_.Literal("[");
    for (size_t i = 0; i < list.items.size(); ++i) {
      if (i > 0) ItemSeparator();
      NewLine(level + 1);
      if (!Put(list.items[i], level + 1)) return false;
    }
    NewLine(level);
    out_.Literal("]");
    return true;
  }

  bool PutDict(const Dict& dict, int level) {
    if (dict.items.empty()) {
      out_.Literal("{}");
      return true;
    }
    std::vector<Value> order;  // positions, sorted by key when asked
    for (size_t i = 0; i < dict.items.size(); ++i) order.push_back(Value::OfInt(i));
    if (style_.sort_keys) {
      std::vector<Value> keys;
      for (const auto& [key, value] : dict.items) keys.push_back(key);
      if (!StableSort(context_, &order, keys, false)) return false;
    }
    out_.Literal("{");
    bool first = true;
    for (const auto& position : order) {
      const auto& [key, value] = dict.items[static_cast<size_t>(position.integer())];
      if (!first) ItemSeparator();
      first = false;
      NewLine(level + 1);
      if (!PutKey(key)) return false;
      KeySeparator();
      if (!Put(value, level + 1)) return false;
    }
    NewLine(level);
    out_.Literal("}");
    return true;
  }

  bool PutKey(const Value& key) {
    if (key.string()) return PutString(key.str());
    if (key.none() || key.number()) {
      out_.Literal("\"" + ScalarText(key) + "\"", key.input());
      return true;
    }
    return context_->Fail(std::string("keys must be str, int, float, bool or None, not ") +
                          TypeName(key));
  }

  Context* context_;
  const JsonStyle& style_;
  Builder out_;
};

}  // namespace

bool DumpValue(Context* context, const Value& value, const JsonStyle& style, Value* result) {
  return Dumper(context, style).Run(value, result);
}

}  // namespace lode::text::jinja
