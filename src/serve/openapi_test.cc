// The document of the API says what the readers of requests do: every field that one of them reads
// is in its table, and every row of a table is refused where the value is not what the row says.
#include "serve/openapi.h"

#include <gtest/gtest.h>

#include <regex>
#include <set>

#include "base/file.h"
#include "serve/anthropic/message_request.h"
#include "serve/faults.h"
#include "serve/openai/chat_request.h"
#include "serve/responses/response_request.h"

namespace lode::serve {
namespace {

constexpr FieldLimits kLimits = {1000, 4096, 128};

Json Body(const std::string& schema) {
  Json body = {{"messages", {{{"role", "user"}, {"content", "x"}}}}};
  if (schema == "message") body["max_tokens"] = 5;
  if (schema == "response") body = {{"input", "x"}};
  return body;
}

// The message of what is wrong; empty: nothing.
std::string Refusal(const std::string& schema, const Json& body) {
  if (schema == "message") {
    const auto call = ReadMessageRequest(body, kLimits, {}, false);
    return call.ok() ? "" : call.error().message();
  }
  if (schema == "response") {
    const auto call = ReadResponseRequest(body, kLimits, {}, Json::array());
    return call.ok() ? "" : call.error().message();
  }
  const auto call = ReadChatRequest(body, kLimits, {});
  return call.ok() ? "" : call.error().message();
}

std::vector<Json> WrongValues(const FieldDoc& field) {
  switch (field.type) {
    case FieldType::kString:
      return {7, Json::array()};
    case FieldType::kBool:
      return {"true", 1};
    case FieldType::kInteger:
      return {"7", 1.5, true};
    case FieldType::kNumber:
      return {"0.5", Json::array()};
    case FieldType::kObject:
      return {"x", Json::array({1})};
    case FieldType::kArray:
      return {"x", 7};
    case FieldType::kStrings:
      return {7, Json::array({7})};
    case FieldType::kAny:
      return {};
  }
  return {};
}

TEST(OpenApi, FieldsAreRefusedByNameWhereTheirValueIsNotWhatTheTableSays) {
  for (const std::string schema : {"chat", "message", "response"}) {
    int tried = 0;
    for (const auto table : FieldsOf(schema)) {
      for (const FieldDoc& field : table) {
        if (std::string(field.name) == "model") continue;  // the site compares names
        std::vector<Json> wrong = WrongValues(field);
        if (field.least < field.most) {
          wrong.push_back(field.least - 1.0);
          wrong.push_back(field.most + 1.0);
          if (field.type == FieldType::kInteger) {
            wrong[wrong.size() - 2] = static_cast<int64_t>(field.least) - 1;
            wrong.back() = static_cast<int64_t>(field.most) + 1;
          }
        }
        for (const Json& value : wrong) {
          Json body = Body(schema);
          body[field.name] = value;
          const std::string refusal = Refusal(schema, body);
          EXPECT_TRUE(refusal.starts_with(field.name))
              << schema << "." << field.name << " = " << value << ": " << refusal;
          ++tried;
        }
        if (field.required) {
          Json body = Body(schema);
          body.erase(field.name);
          EXPECT_TRUE(Refusal(schema, body).starts_with(field.name)) << field.name;
        }
      }
    }
    EXPECT_GT(tried, 20);
  }
}

// Reads the sources of the readers: a field that somebody adds must be told.
TEST(OpenApi, EveryFieldThatIsReadIsInTheTable) {
  const struct {
    const char* schema;
    const char* file;
  } readers[] = {{"chat", "openai/chat_request.cc"},
                 {"chat", "openai/rules.cc"},
                 {"chat", "openai/answer_form.cc"},
                 {"chat", "openai/tool_choice.cc"},
                 {"response", "responses/response_request.cc"},
                 {"response", "openai/rules.cc"},
                 {"completion", "openai/completion_request.cc"},
                 {"completion", "openai/rules.cc"},
                 {"embedding", "openai/embeddings.cc"},
                 {"message", "anthropic/message_request.cc"}};
  const std::set<std::string> older = {"functions", "function_call"};
  const std::regex read(
      R"(\bfields\.(?:String|Bool|Number|Integer|Object|Array|Strings|Find)\("(\w+)\")");
  for (const auto& [schema, file] : readers) {
    const auto text = ReadFile(LODE_SOURCE_DIR "/src/serve/" + std::string(file));
    ASSERT_TRUE(text.ok()) << file;
    std::set<std::string> told;
    for (const auto table : FieldsOf(schema)) {
      for (const FieldDoc& field : table) told.insert(field.name);
    }
    int found = 0;
    for (std::sregex_iterator it(text->begin(), text->end(), read), end; it != end; ++it) {
      const std::string name = (*it)[1];
      EXPECT_TRUE(told.contains(name) || older.contains(name)) << file << " reads " << name;
      ++found;
    }
    EXPECT_GT(found, 0) << file;
  }
}

// As above, of requests about contexts, which share readers.
TEST(OpenApi, EveryFieldOfContextsIsInATable) {
  std::set<std::string> told;
  for (const char* schema : {"context", "context_change", "context_fork", "context_truncate",
                             "context_save", "context_restore", "chat"}) {
    EXPECT_FALSE(FieldsOf(schema).empty()) << schema;
    for (const auto table : FieldsOf(schema)) {
      for (const FieldDoc& field : table) told.insert(field.name);
    }
  }
  const std::regex read(
      R"(\bfields(?:\.(?:String|Bool|Number|Integer|Object|Array|Find)\(|, )\"(\w+)\")");
  int found = 0;
  for (const char* file : {"context_requests.cc", "routes.cc"}) {
    const auto text = ReadFile(LODE_SOURCE_DIR "/src/serve/contexts/" + std::string(file));
    ASSERT_TRUE(text.ok()) << file;
    for (std::sregex_iterator it(text->begin(), text->end(), read), end; it != end; ++it) {
      EXPECT_TRUE(told.contains((*it)[1])) << file << " reads " << (*it)[1];
      ++found;
    }
  }
  EXPECT_GT(found, 15);
}

TEST(OpenApi, RoutesOfSeveralMethodsHaveAnOperationForEach) {
  const std::vector<ApiRoute> routes = {{"/v1/contexts", false, true, false, "GET, POST"},
                                        {"/v1/contexts/", false, true, false,
                                         "GET, POST, PATCH, DELETE"}};
  const Json paths = OpenApiDocument(routes, kLimits, "1.0")["paths"];
  EXPECT_TRUE(paths["/v1/contexts"].contains("get"));
  EXPECT_TRUE(paths["/v1/contexts"]["post"].contains("requestBody"));
  EXPECT_TRUE(paths["/v1/contexts/{name}"].contains("delete"));
  EXPECT_TRUE(paths["/v1/contexts/{name}/fork"]["post"].contains("parameters"));
}

TEST(OpenApi, TheDocumentHasEveryRouteAndEveryFault) {
  const std::vector<ApiRoute> routes = {{"/health", true, false},
                                        {"/v1/models/", true, false},
                                        {"/v1/chat/completions", false, true},
                                        {"/nobody/told", false, false}};
  const Json document = OpenApiDocument(routes, kLimits, "1.0");
  EXPECT_EQ(document["openapi"], "3.1.0");
  const Json& paths = document["paths"];
  ASSERT_EQ(paths.size(), routes.size());
  EXPECT_TRUE(paths["/v1/models/{name}"]["get"].contains("parameters"));
  const Json& chat = paths["/v1/chat/completions"]["post"];
  EXPECT_TRUE(chat["responses"]["200"]["content"].contains("text/event-stream"));
  EXPECT_TRUE(chat.contains("security"));
  EXPECT_FALSE(paths["/health"]["get"].contains("security"));
  EXPECT_EQ(paths["/nobody/told"]["get"]["summary"], "");
  for (const FaultInfo& fault : AllFaults()) {
    const std::string status = std::to_string(fault.status);
    const Json& told = document["components"]["responses"][status];
    EXPECT_NE(told["description"].get<std::string>().find(fault.code), std::string::npos);
    EXPECT_TRUE(chat["responses"].contains(status)) << status;
  }
  // Every reference leads somewhere.
  const std::string text = DumpJson(document);
  const std::regex reference("\"#/components/(\\w+)/([\\w-]+)\"");
  for (std::sregex_iterator it(text.begin(), text.end(), reference), end; it != end; ++it) {
    EXPECT_TRUE(document["components"][(*it)[1].str()].contains((*it)[2].str())) << it->str();
  }
}

}  // namespace
}  // namespace lode::serve
