// Prompts that go on from a context, and what a part of one is.
#include "chat/contexts.h"

#include <gtest/gtest.h>

#include "chat/fake_answers.h"
#include "chat/prompt.h"

namespace lode::chat {
namespace {

class ContinueTest : public testing::Test {
 protected:
  void SetUp() override {
    auto source = ReadFile(LODE_SOURCE_DIR "/models/demo/chat_template.jinja");
    ASSERT_TRUE(source.ok());
    auto parsed = text::ChatTemplate::Parse(*source);
    ASSERT_TRUE(parsed.ok());
    template_ = std::move(*parsed);
    maker_.emplace(tokenizer_.get(), template_.get(), PromptOptions{});
  }

  static Json Message(const char* role, const std::string& content) {
    return {{"role", role}, {"content", content}};
  }
  std::string Text(const std::vector<int32_t>& ids) const { return *tokenizer_->Decode(ids); }

  std::unique_ptr<text::Tokenizer> tokenizer_ = DemoTokenizer(LODE_SOURCE_DIR);
  std::unique_ptr<text::ChatTemplate> template_;
  std::optional<PromptMaker> maker_;
};

TEST_F(ContinueTest, BehindWholeMessagesThePromptIsThatOfAllMessages) {
  Json request = {{"messages", {Message("system", "Be brief."), Message("user", "Hi.")}},
                  {"add_generation_prompt", true}};
  Json first = {{"messages", {Message("system", "Be brief.")}}, {"add_generation_prompt", false}};
  const Prompt known = *maker_->Make(first);
  const auto prompt = maker_->Continue(request, 1, false, known.ids);
  ASSERT_TRUE(prompt.ok()) << prompt.error().ToString();
  EXPECT_EQ(prompt->ids, maker_->Make(request)->ids);
}

TEST_F(ContinueTest, BehindAnAnswerItsTokensStayAndTheTemplateClosesIt) {
  const Json asked = {{"messages", {Message("user", "Hi.")}}, {"add_generation_prompt", true}};
  std::vector<int32_t> tokens = maker_->Make(asked)->ids;
  // As a model may write it, and no tokenizer would.
  for (const char c : std::string("a thought</think>\nfine")) {
    const auto ids = EncodeCut(*tokenizer_, std::string(1, c), 0);
    tokens.insert(tokens.end(), ids.begin(), ids.end());
  }
  Json request = {{"messages",
                   {Message("user", "Hi."), Message("assistant", "fine"),
                    Message("user", "And what else?")}},
                  {"add_generation_prompt", true}};
  const auto prompt = maker_->Continue(request, 2, true, tokens);
  ASSERT_TRUE(prompt.ok()) << prompt.error().ToString();
  ASSERT_GT(prompt->ids.size(), tokens.size());
  EXPECT_TRUE(std::equal(tokens.begin(), tokens.end(), prompt->ids.begin()));
  const std::vector<int32_t> rest(prompt->ids.begin() + std::ssize(tokens), prompt->ids.end());
  const std::string whole = maker_->Make(request)->text;
  EXPECT_EQ(Text(rest), whole.substr(whole.find("fine") + 4));
}

TEST_F(ContinueTest, TemplatesThatWriteTheBeginningAnewAreToldApart) {
  auto parsed = text::ChatTemplate::Parse("{{ messages | length }}:{% for m in messages %}"
                                          "[{{ m.content }}]{% endfor %}");
  ASSERT_TRUE(parsed.ok());
  const PromptMaker maker(tokenizer_.get(), parsed->get(), PromptOptions{});
  const Json request = {{"messages", {Message("user", "a"), Message("user", "b")}}};
  const auto prompt = maker.Continue(request, 1, false, {1, 2, 3});
  ASSERT_FALSE(prompt.ok());
  EXPECT_EQ(prompt.error().code(), Code::kUnsupported);
}

ContextText Dialogue() {
  ContextText text;
  text.tokens = std::make_shared<const std::vector<int32_t>>(std::vector<int32_t>(20, 5));
  text.dialogue = std::make_shared<const Json>(
      Json{{"messages", {{{"role", "user"}}, {{"role", "assistant"}}, {{"role", "user"}}}}});
  text.boundaries = {{1, 8, false}, {2, 12, true}, {3, 20, false}};
  text.marks = {{"early", 8}, {"late", 19}};
  return text;
}

TEST(ContextText, APartThatIsWholeKeepsItsMessages) {
  const ContextText part = Dialogue().First(12);
  EXPECT_EQ(part.size(), 12);
  ASSERT_NE(part.dialogue, nullptr);
  EXPECT_EQ((*part.dialogue)["messages"].size(), 2u);
  EXPECT_TRUE(part.boundaries.back().open);
  EXPECT_EQ(part.marks, (std::map<std::string, int64_t>{{"early", 8}}));
}

TEST(ContextText, APartInsideAMessageIsPlainText) {
  const ContextText part = Dialogue().First(10);
  EXPECT_EQ(part.size(), 10);
  EXPECT_EQ(part.dialogue, nullptr);
  EXPECT_TRUE(part.boundaries.empty());
}

TEST(ContextText, AllOfItIsShared) {
  const ContextText text = Dialogue();
  EXPECT_EQ(text.First(20).tokens, text.tokens);
}

}  // namespace
}  // namespace lode::chat
