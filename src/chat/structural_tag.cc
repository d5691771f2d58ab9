#include "chat/structural_tag.h"

#include <algorithm>
#include <utility>

#include "base/text.h"
#include "text/grammar/characters.h"
#include "text/grammar/gbnf.h"
#include "text/grammar/regex.h"

namespace lode::chat {
namespace {

using text::grammar::GrammarBuilder;
using text::grammar::JsonStyle;
using text::grammar::kUnbounded;
using text::grammar::NodeId;
using text::grammar::Spelling;
using text::grammar::TermId;
using text::grammar::Terms;

// The older form: structures are tags around a schema.
Json NewForm(const Json& format) {
  Json tags = Json::array();
  for (const Json& one : format["structures"]) {
    const Json* schema = FindKey(one, "schema");
    tags.push_back({{"type", "tag"},
                    {"begin", GetString(one, "begin")},
                    {"content",
                     {{"type", "json_schema"},
                      {"json_schema", schema == nullptr ? Json(true) : *schema}}},
                    {"end", GetString(one, "end")}});
  }
  const Json* triggers = FindKey(format, "triggers");
  return {{"type", "triggered_tags"},
          {"triggers", triggers == nullptr ? Json::array() : *triggers},
          {"tags", std::move(tags)}};
}

class TagMaker {
 public:
  TagMaker(GrammarBuilder* builder, const JsonStyle& style) : builder_(*builder), style_(style) {}

  // `ends`: what free text must not hold, for it would end a tag around it.
  Result<NodeId> Make(const Json& node, const std::string& path,
                      const std::vector<std::string>& ends) {
    const std::string type = GetString(node, "type");
    if (type == "const_string") return builder_.Literal(GetString(node, "value"));
    if (type == "any_text") return builder_.Regular(TextWithout(&builder_.terms(), ends));
    if (type == "json_schema" || type == "regex" || type == "grammar") return Leaf(node, path);
    if (type == "sequence" || type == "or") {
      LODE_ASSIGN(std::vector<NodeId> parts, List(node, "elements", path, ends));
      return type == "or" ? builder_.Choice(std::move(parts))
                          : builder_.Sequence(std::move(parts));
    }
    if (type == "tag") return Tag(node, path, ends);
    if (type == "triggered_tags") return Triggered(node, path, ends);
    if (type == "tags_with_separator") return Separated(node, path, ends);
    return Error(Code::kUnsupported, path + ".type: " + Quote(type, 40) + " is not understood");
  }

 private:
  Result<NodeId> Leaf(const Json& node, const std::string& path) {
    const auto named = [&](Result<NodeId> made) -> Result<NodeId> {
      if (made.ok()) return made;
      return Error(made.error().code(), path + ": " + made.error().message());
    };
    const std::string type = GetString(node, "type");
    if (type == "regex") {
      return named(text::grammar::RegexNode(&builder_, GetString(node, "pattern")));
    }
    if (type == "grammar") {
      return named(text::grammar::GbnfNode(&builder_, GetString(node, "grammar")));
    }
    const Json* schema = FindKey(node, "json_schema");
    if (schema == nullptr) return Error(Code::kBadInput, path + ".json_schema: is missing");
    return named(text::grammar::JsonSchemaNode(&builder_, *schema, style_));
  }

  Result<std::vector<NodeId>> List(const Json& node, const char* name, const std::string& path,
                                   const std::vector<std::string>& ends) {
    const Json* list = FindKey(node, name);
    const std::string here = path + "." + name;
    if (list == nullptr || !list->is_array() || list->empty()) {
      return Error(Code::kBadInput, here + ": must be a list with something in it");
    }
    std::vector<NodeId> parts;
    for (size_t i = 0; i < list->size(); ++i) {
      const std::string place = here + "[" + std::to_string(i) + "]";
      const bool tags = std::string_view(name) == "tags";
      LODE_ASSIGN(const NodeId part,
                  tags ? Tag((*list)[i], place, ends) : Make((*list)[i], place, ends));
      parts.push_back(part);
    }
    return parts;
  }

  Result<NodeId> Tag(const Json& node, const std::string& path, std::vector<std::string> ends) {
    const Json* content = FindKey(node, "content");
    if (content == nullptr) return Error(Code::kBadInput, path + ".content: is missing");
    const std::string end = GetString(node, "end");
    if (!end.empty()) ends.push_back(end);
    LODE_ASSIGN(const NodeId inside, Make(*content, path + ".content", ends));
    return builder_.Sequence(
        {builder_.Literal(GetString(node, "begin")), inside, builder_.Literal(end)});
  }

  // Free text; a tag begins where one of the triggers stands.
  Result<NodeId> Triggered(const Json& node, const std::string& path,
                           const std::vector<std::string>& ends) {
    std::vector<std::string> triggers;
    const Json* list = FindKey(node, "triggers");
    for (size_t i = 0; list != nullptr && i < list->size(); ++i) {
      if ((*list)[i].is_string()) triggers.push_back((*list)[i].get<std::string>());
    }
    triggers.erase(std::remove(triggers.begin(), triggers.end(), ""), triggers.end());
    if (triggers.empty()) return Error(Code::kBadInput, path + ".triggers: has no texts");
    LODE_ASSIGN(std::vector<NodeId> tags, List(node, "tags", path, ends));
    for (const Json& tag : node["tags"]) {
      const std::string begin = GetString(tag, "begin");
      const bool known = std::any_of(triggers.begin(), triggers.end(), [&](const std::string& one) {
        return begin.starts_with(one);
      });
      if (known) continue;
      return Error(Code::kBadInput,
                   path + ".triggers: none of them begins the tag " + Quote(begin, 40));
    }
    std::vector<std::string> never = ends;
    never.insert(never.end(), triggers.begin(), triggers.end());
    const NodeId free = builder_.Regular(TextWithout(&builder_.terms(), never));
    const NodeId tag = builder_.Choice(std::move(tags));
    const bool some = GetBool(node, "at_least_one");
    if (GetBool(node, "stop_after_first")) {
      return builder_.Sequence({free, some ? tag : builder_.Optional(tag)});
    }
    const NodeId more = builder_.Sequence({tag, free});
    return builder_.Sequence({free, builder_.Repeat(more, some ? 1 : 0, kUnbounded)});
  }

  Result<NodeId> Separated(const Json& node, const std::string& path,
                           const std::vector<std::string>& ends) {
    LODE_ASSIGN(std::vector<NodeId> tags, List(node, "tags", path, ends));
    const NodeId tag = builder_.Choice(std::move(tags));
    NodeId all = tag;
    if (!GetBool(node, "stop_after_first")) {
      const NodeId next =
          builder_.Sequence({builder_.Literal(GetString(node, "separator")), tag});
      all = builder_.Sequence({tag, builder_.Repeat(next, 0, kUnbounded)});
    }
    return GetBool(node, "at_least_one") ? all : builder_.Optional(all);
  }

  GrammarBuilder& builder_;
  const JsonStyle style_;
};

}  // namespace

TermId TextWithout(Terms* terms, const std::vector<std::string>& words) {
  std::vector<TermId> parts = {text::grammar::AnyText(terms, Spelling::kRaw)};
  for (const std::string& word : words) {
    parts.push_back(terms->Not(terms->Concat(
        {terms->Everything(), terms->Literal(word), terms->Everything()})));
  }
  return terms->And(std::move(parts));
}

Result<NodeId> StructuralTagNode(GrammarBuilder* builder, const Json& format,
                                 const JsonStyle& style) {
  const std::string path = "response_format.format";
  const Json* structures = FindKey(format, "structures");
  if (structures != nullptr && structures->is_array()) {
    return TagMaker(builder, style).Make(NewForm(format), path, {});
  }
  return TagMaker(builder, style).Make(format, path, {});
}

}  // namespace lode::chat
