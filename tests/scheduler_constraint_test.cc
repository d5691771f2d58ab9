// Answers under constraints: every token is allowed, the text is the same whoever guesses, and what
// is forced costs no step.
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tests/support/automaton.h"
#include "tests/support/serving.h"

namespace lode::runtime {
namespace {

// Guesses anything, mostly what no automaton allows.
class Babbler : public Drafter {
 public:
  explicit Babbler(int64_t vocabulary) : vocabulary_(static_cast<uint32_t>(vocabulary)) {}
  int64_t Propose(std::span<const int32_t>, std::span<int32_t> drafts) override {
    for (int32_t& draft : drafts) draft = static_cast<int32_t>(random_() % (vocabulary_ + 1));
    return static_cast<int64_t>(drafts.size());
  }

 private:
  uint32_t vocabulary_;
  std::mt19937 random_{5};
};

enum class Who : uint8_t { kNobody, kOwn, kNgrams, kBabbler };

struct Ask {
  std::string path = "moe-nano";
  Who who = Who::kNobody;
  double temperature = 0.0;
  // Of so many pages a small pool is made; 0: of many. With few they push each other out, with one
  // more than the longest takes one runs after the other.
  int64_t pages = 0;
};

struct Said {
  std::map<RequestId, std::vector<Token>> texts;
  std::map<RequestId, StopReason> ends;
  int64_t rows = 0, steps = 0, preempted = 0, accepted = 0;
};

constexpr uint32_t kAutomata = 6;
constexpr int64_t kAnswer = 290, kLeast = 260;

Said AnswerAll(const model::Model& model, const Ask& ask) {
  EngineOptions engine;
  engine.rows_max = 64;
  engine.sequences_max = ask.pages > 0 ? 3 : 12;
  engine.context_tokens = (ask.pages > 0 ? ask.pages - 2 : 40) * kTokensPerPage;
  engine.trial_rows_max = 5;
  SchedulerOptions options;
  options.running_max = 4;
  options.answer_tokens = 2;
  options.progress_min = 32;
  options.drafts_max = ask.who == Who::kNobody ? 0 : 4;
  options.drafts_fixed = ask.who == Who::kNobody ? -1 : 3;
  if (ask.who == Who::kNgrams) {
    options.drafter = [](const Request&) {
      return std::make_unique<NgramDrafter>(NgramOptions{.shortest = 1, .tokens_max = 512});
    };
  } else if (ask.who == Who::kBabbler) {
    options.drafter = [&](const Request&) {
      return std::make_unique<Babbler>(model.spec.vocabulary);
    };
  }
  Serving serving(model, engine, options);
  Said said;
  std::map<RequestId, std::shared_ptr<Automaton>> automata;
  for (uint32_t seed = 0; seed < kAutomata; ++seed) {
    Request request;
    request.prompt = {3, static_cast<Token>(seed), 5, 8};
    request.root = serving.scheduler->default_root();
    request.constraint = std::make_shared<Automaton>(seed, model.spec.vocabulary);
    const auto automaton = std::static_pointer_cast<Automaton>(request.constraint);
    request.stop_ids = {Automaton::kStop};
    request.tokens_max = kAnswer;
    request.tokens_min = seed % 2 == 0 ? kLeast : 0;
    request.sampling.temperature = ask.temperature;
    request.sampling.seed = seed;
    const auto id = serving.scheduler->Submit(std::move(request));
    EXPECT_TRUE(id.ok());
    automata[*id] = automaton;
    said.texts[*id] = {};
  }
  while (serving.Step([&](const Event& event) {
    auto& text = said.texts[event.request];
    Automaton& automaton = *automata[event.request];
    if (event.kind == Event::Kind::kFailed) ADD_FAILURE() << event.error->ToString();
    if (event.kind == Event::Kind::kToken) {
      const auto mask = automaton.MaskAfter(text, (event.request - 1) % 2 == 0 ? kLeast : 0);
      EXPECT_TRUE(mask && mask->allowed(event.sampled.token));
      text.push_back(event.sampled.token);
    }
    if (event.kind == Event::Kind::kFinished) {
      said.ends[event.request] = event.stop;
      if (event.stop == StopReason::kStopToken) {
        EXPECT_TRUE(automaton.MaskAfter(text, 0)->allowed(Automaton::kStop));
      }
    }
  })) {
    ++said.steps;
  }
  serving.ExpectNothingLeft();
  said.rows = serving.scheduler->rows();
  said.preempted = serving.scheduler->preemptions();
  said.accepted = serving.scheduler->accepted();
  return said;
}

TEST(Constrained, TheTextIsTheSameWhoeverGuessesAtAnyTemperatureAndWhenPreempted) {
  for (const char* path : {"moe-nano", "latent-super"}) {
    const auto model = LoadGolden(path);
    ASSERT_NE(model, nullptr);
    int64_t preempted = 0, stopped = 0, accepted = 0, fewer = 0;
    for (const double temperature : {0.0, 0.7, 1.6}) {
      Ask ask{path, Who::kNobody, temperature};
      const Said plain = AnswerAll(*model, ask);
      EXPECT_EQ(plain.ends.size(), kAutomata);
      for (const auto& [id, end] : plain.ends) stopped += end == StopReason::kStopToken;
      for (const Who who : {Who::kOwn, Who::kNgrams, Who::kBabbler}) {
        for (const int64_t pages : {0, 3, 4}) {
          SCOPED_TRACE(std::string(path) + ", " + std::to_string(static_cast<int>(who)) +
                       ", pages " + std::to_string(pages) + ", T = " + std::to_string(temperature));
          ask.who = who;
          ask.pages = pages;
          const Said said = AnswerAll(*model, ask);
          EXPECT_EQ(said.texts, plain.texts);
          EXPECT_EQ(said.ends, plain.ends);
          preempted += said.preempted;
          accepted += said.accepted;
          if (pages == 0) fewer += said.steps < plain.steps;
        }
      }
    }
    EXPECT_GT(preempted, 0);
    EXPECT_GT(stopped, 2);
    EXPECT_GT(accepted, 500);
    EXPECT_EQ(fewer, 9);  // what is forced saves steps even where all guesses are nonsense
  }
}

// --- One request ---------------------------------------------------------------------------------

struct One {
  std::vector<Token> text;
  std::string error;
  StopReason end = StopReason::kCancelled;
  int64_t rows = 0, steps = 0;
};

One Answer(Request request, SchedulerOptions options = {}) {
  static const std::unique_ptr<model::Model> model = LoadGolden("moe-nano");
  EngineOptions engine;
  engine.trial_rows_max = options.drafts_max + 1;
  Serving serving(*model, engine, options);
  request.root = serving.scheduler->default_root();
  request.prompt = {7, 9, 11};
  One one;
  const auto id = serving.scheduler->Submit(std::move(request));
  EXPECT_TRUE(id.ok());
  while (serving.Step([&](const Event& event) {
    if (event.kind == Event::Kind::kToken) one.text.push_back(event.sampled.token);
    if (event.kind == Event::Kind::kFailed) one.error = event.error->ToString();
    if (event.kind == Event::Kind::kFinished) one.end = event.stop;
  })) {
    ++one.steps;
  }
  serving.ExpectNothingLeft();
  one.rows = serving.scheduler->rows();
  return one;
}

TEST(Constrained, ForcedTokensAreRowsAndNotSteps) {
  std::vector<Token> fixed;
  for (int i = 0; i < 40; ++i) fixed.push_back((i * 37 + 5) % 200);
  for (const int64_t drafts : {0, 4}) {
    SchedulerOptions options;
    options.drafts_max = drafts;
    Request request;
    request.constraint = std::make_shared<FixedSequence>(fixed, 250);
    request.stop_ids = {250};
    const One one = Answer(request, options);
    EXPECT_EQ(one.text, fixed);
    EXPECT_EQ(one.end, StopReason::kStopToken);
    EXPECT_EQ(one.rows, 3 + 40);  // none is computed in vain
    EXPECT_EQ(one.steps, drafts == 0 ? 41 : 1 + 8);
  }
}

TEST(Constrained, EachMaskIsComputedOnce) {
  for (const int64_t drafts : {0, 4}) {
    SchedulerOptions options;
    options.drafts_max = drafts;
    Request request;
    const auto automaton = std::make_shared<Automaton>(3, 288);
    request.constraint = automaton;
    request.tokens_max = 100;
    const One one = Answer(request, options);
    EXPECT_EQ(one.text.size(), 100u);
    EXPECT_LE(automaton->computed, 101);
    EXPECT_GE(automaton->prefetched, automaton->computed);
  }
}

TEST(Constrained, WhereNothingIsAllowedTheRequestFailsWithASentence) {
  Request request;
  request.constraint = std::make_shared<AllowList>(TokenMask(288));
  const One one = Answer(request);
  EXPECT_TRUE(one.text.empty());
  EXPECT_NE(one.error.find("the constraint allows no token at position 3"), std::string::npos)
      << one.error;
}

// Follows a few tokens, then says that it cannot go on.
class Limited : public Constraint {
 public:
  ConstraintState Start() const override { return {}; }
  void Mask(ConstraintState, TokenMask* mask) override { mask->AllowAll(); }
  Result<ConstraintState> Advance(ConstraintState state, int32_t) override {
    if (state.bits[0] == 5) return Error(Code::kNoSpace, "the grammar is nested too deeply");
    return ConstraintState{{state.bits[0] + 1, 0}};
  }
};

TEST(Constrained, AConstraintThatCannotFollowFailsTheRequestAtThatToken) {
  for (const int64_t drafts : {0, 4}) {
    SchedulerOptions options;
    options.drafts_max = drafts;
    Request request;
    request.constraint = std::make_shared<Limited>();
    request.tokens_max = 20;
    const One one = Answer(request, options);
    EXPECT_EQ(one.text.size(), 6u);
    EXPECT_NE(one.error.find("nested too deeply"), std::string::npos) << one.error;
  }
}

TEST(Constrained, NoStopTokenComesBeforeTheLeastNumberOfTokens) {
  Request request;
  request.tokens_max = 60;
  const One free = Answer(request);
  ASSERT_EQ(free.text.size(), 60u);
  request.stop_ids = {free.text[0], free.text[1], free.text[2]};
  EXPECT_EQ(Answer(request).text.size(), 0u);
  for (const int64_t least : {1, 10, 40}) {
    request.tokens_min = least;
    const One one = Answer(request);
    EXPECT_GE(std::ssize(one.text), least);
    for (const Token token : one.text) {
      EXPECT_EQ(std::find(request.stop_ids.begin(), request.stop_ids.end(), token),
                request.stop_ids.end());
    }
  }
}

}  // namespace
}  // namespace lode::runtime
