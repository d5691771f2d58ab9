#include "text/parsers/tool_schemas_json.h"

#include <gtest/gtest.h>

namespace lode::text {
namespace {

ParameterType TypeOf(const char* schema, const char* root = "{}") {
  Json parameters = *ParseJson(root);
  parameters["properties"]["x"] = *ParseJson(schema);
  const ToolSchemas tools = ToolSchemasFromJson(Json::array(
      {{{"type", "function"}, {"function", {{"name", "f"}, {"parameters", parameters}}}}}));
  const ToolSchema* tool = tools.Find("f");
  EXPECT_NE(tool, nullptr);
  return tool->parameters.at("x");
}

TEST(ToolSchemas, TakesTheFirstTypeThatIsNotNull) {
  EXPECT_EQ(TypeOf(R"({"type":"integer"})").kind, ValueKind::kInteger);
  EXPECT_FALSE(TypeOf(R"({"type":"integer"})").nullable);
  EXPECT_EQ(TypeOf(R"({"type":["null","number","string"]})").kind, ValueKind::kNumber);
  EXPECT_TRUE(TypeOf(R"({"type":["null","number"]})").nullable);
  EXPECT_EQ(TypeOf(R"({"anyOf":[{"type":"null"},{"type":"object"}]})").kind, ValueKind::kObject);
  EXPECT_TRUE(TypeOf(R"({"anyOf":[{"type":"null"},{"type":"object"}]})").nullable);
  EXPECT_EQ(TypeOf(R"({"oneOf":[{"type":"array"},{"type":"string"}]})").kind, ValueKind::kArray);
  EXPECT_TRUE(TypeOf(R"({"type":"boolean","nullable":true})").nullable);
  EXPECT_EQ(TypeOf(R"({"type":"null"})").kind, ValueKind::kNull);
}

TEST(ToolSchemas, InfersTypesFromValuesAndKeywords) {
  EXPECT_EQ(TypeOf(R"({"enum":[null,1,2]})").kind, ValueKind::kInteger);
  EXPECT_TRUE(TypeOf(R"({"enum":[null,1,2]})").nullable);
  EXPECT_EQ(TypeOf(R"({"const":true})").kind, ValueKind::kBoolean);
  EXPECT_EQ(TypeOf(R"({"properties":{}})").kind, ValueKind::kObject);
  EXPECT_EQ(TypeOf(R"({"items":{}})").kind, ValueKind::kArray);
  EXPECT_EQ(TypeOf(R"({})").kind, ValueKind::kString);
  EXPECT_EQ(TypeOf(R"({"type":"date"})").kind, ValueKind::kString);
  EXPECT_EQ(TypeOf(R"(7)").kind, ValueKind::kString);
}

TEST(ToolSchemas, FollowsReferencesButNotForever) {
  const char* root = R"({"$defs":{"a/b":{"type":"integer"},"loop":{"$ref":"#/$defs/loop"},
                         "both":{"anyOf":[{"$ref":"#/$defs/both"},{"$ref":"#/$defs/both"}]}}})";
  EXPECT_EQ(TypeOf(R"({"$ref":"#/$defs/a~1b"})", root).kind, ValueKind::kInteger);
  EXPECT_EQ(TypeOf(R"({"$ref":"#/$defs/loop"})", root).kind, ValueKind::kString);
  EXPECT_EQ(TypeOf(R"({"$ref":"#/$defs/both"})", root).kind, ValueKind::kString);
  EXPECT_EQ(TypeOf(R"({"$ref":"#/$defs/none"})", root).kind, ValueKind::kString);
  EXPECT_EQ(TypeOf(R"({"$ref":"http://other"})", root).kind, ValueKind::kString);
}

TEST(ToolSchemas, ReadsTheShapesOfAllDialectsAndPassesOverOthers) {
  const ToolSchemas tools = ToolSchemasFromJson(*ParseJson(R"([
    {"name":"flat","parameters":{"properties":{"n":{"type":"integer"}}}},
    {"name":"messages","input_schema":{"properties":{"n":{"type":"integer"}},
                                       "additionalProperties":{"type":"number"}}},
    {"type":"web_search"}, 5, null, {"name":7}, {"name":"bare"}])"));
  EXPECT_EQ(tools.Find("flat")->parameters.at("n").kind, ValueKind::kInteger);
  EXPECT_EQ(tools.Find("flat")->undeclared.kind, ValueKind::kString);
  EXPECT_EQ(tools.Find("messages")->undeclared.kind, ValueKind::kNumber);
  EXPECT_NE(tools.Find("bare"), nullptr);
  EXPECT_EQ(tools.Find("web_search"), nullptr);
  EXPECT_TRUE(ToolSchemasFromJson(Json()).empty());
}

}  // namespace
}  // namespace lode::text
