// The public interface in include/lode alone: contexts that are saved and restored.
#include <gtest/gtest.h>
#include <lode/context.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "tests/support/contexts_api.h"

namespace lode::v1 {
namespace {

TEST_F(ContextsApi, ASavedContextIsThereAgainWithTheSameBits) {
  const auto tokens = SomeTokens(700, 9);
  Digest chain, digest;
  std::vector<Token> drawn;
  {
    Engine engine = Open();
    Context context = New(engine, {.name = "notes"});
    Append(context, {tokens.begin(), tokens.begin() + 300}, "part one");
    Append(context, {tokens.begin() + 300, tokens.end()});
    const auto saved = context.Save("notes");
    ASSERT_TRUE(saved.ok()) << saved.error().ToString();
    EXPECT_EQ(saved->tokens, 700);
    EXPECT_EQ(saved->state, 699);
    EXPECT_FALSE(saved->delta);
    chain = *context.Chain();
    digest = *context.StateDigest();
    drawn = Draw(context, 16, 3);
  }
  Engine engine = Open();
  Restored report;
  auto restored = engine.Restore("notes", {.verify = true}, &report);
  ASSERT_TRUE(restored.ok()) << restored.error().ToString();
  EXPECT_EQ(report.tokens, 700);
  EXPECT_EQ(report.state, 699);
  EXPECT_TRUE(report.exact);
  EXPECT_TRUE(report.damage.empty());
  EXPECT_EQ(restored->tokens(), tokens);
  EXPECT_EQ(*restored->Chain(), chain);
  EXPECT_EQ(*restored->StateDigest(), digest);
  EXPECT_EQ(*restored->MarkedAt("part one"), 300);
  auto part = restored->Fork(1, 300);
  EXPECT_EQ(part->front().Explain()->reuse.computed, 1);  // its state came along
  Reuse reuse;
  EXPECT_EQ(Draw(*restored, 16, 3, &reuse), drawn);
  EXPECT_EQ(reuse.computed, 1);
}

TEST_F(ContextsApi, AForksFileHoldsOnlyItsOwn) {
  Engine engine = Open();
  Context context = New(engine, {.name = "base"});
  Append(context, SomeTokens(2000, 10));
  const auto whole = context.Save("base");
  ASSERT_TRUE(whole.ok());
  auto forks = context.Fork(1);
  Append(forks->front(), SomeTokens(20, 11));
  const auto delta = forks->front().Save("branch");
  ASSERT_TRUE(delta.ok()) << delta.error().ToString();
  EXPECT_TRUE(delta->delta);
  EXPECT_LT(delta->written_bytes, whole->written_bytes / 2);
  auto restored = OpenModel(Options()).Restore("branch");
  ASSERT_TRUE(restored.ok());
  EXPECT_EQ(restored->tokens(), forks->front().tokens());
}

TEST_F(ContextsApi, ASaveTakesTheStateAsItWasWhenAnAnswerIsUnderWay) {
  Engine engine = Open();
  Context context = New(engine);
  const auto tokens = SomeTokens(200, 12);
  Append(context, tokens);
  GenerateOptions options;
  options.model_stops = false;
  auto stream = context.Start(options);
  ASSERT_TRUE(stream.ok());
  for (int i = 0; i < 30; ++i) ASSERT_TRUE(stream->Next().has_value());
  const auto saved = context.Save("meanwhile");
  ASSERT_TRUE(saved.ok()) << saved.error().ToString();
  stream->Cancel();
  ASSERT_TRUE(stream->Finish().ok());
  auto restored = engine.Restore("meanwhile", {.verify = true});
  ASSERT_TRUE(restored.ok());
  EXPECT_EQ(restored->tokens(), tokens);
  EXPECT_EQ(Draw(*restored, 8), Cold(tokens, 8));
}

TEST_F(ContextsApi, ARestoreRunsBesideAnAnswerAndChangesNothingOfIt) {
  const auto tokens = SomeTokens(120, 17);
  Engine engine = Open();
  Context kept = New(engine);
  Append(kept, SomeTokens(1500, 18), "early");
  Append(kept, SomeTokens(1500, 19));
  ASSERT_TRUE(kept.Save("long").ok());
  const Digest digest = *kept.StateDigest();
  Context context = New(engine);
  Append(context, tokens);
  GenerateOptions options;
  options.tokens_max = 3500;
  options.sampling = {.temperature = 1.0, .seed = 1};
  options.model_stops = false;
  auto stream = context.Start(options);
  ASSERT_TRUE(stream.ok());
  std::vector<Context> restored;
  int64_t beside = 0;
  for (int i = 0; i < 4; ++i) {
    // Another salt each time: none finds what the one before has put there.
    Restored report;
    auto again = engine.Restore("long", {.salt = std::to_string(i)}, &report);
    ASSERT_TRUE(again.ok()) << again.error().ToString();
    EXPECT_EQ(report.state, 2999);
    beside += context.info().running;
    restored.push_back(std::move(*again));
  }
  EXPECT_GT(beside, 0);
  stream->Cancel();
  const auto generated = stream->Finish();
  ASSERT_TRUE(generated.ok());
  EXPECT_EQ(generated->tokens, Cold(tokens, std::ssize(generated->tokens)));
  for (Context& each : restored) EXPECT_EQ(*each.StateDigest(), digest);
}

TEST_F(ContextsApi, SealedAndCompressedFilesNeedTheirKey) {
  Engine engine = Open();
  Context context = New(engine);
  Append(context, SomeTokens(300, 13));
  std::array<uint8_t, 32> key{1}, other{2};
  ASSERT_TRUE(context.Save("secret", {.zstd_level = 3, .key = key}).ok());
  EXPECT_FALSE(engine.Restore("secret").ok());
  EXPECT_FALSE(engine.Restore("secret", {.key = other}).ok());
  auto restored = engine.Restore("secret", {.key = key});
  ASSERT_TRUE(restored.ok());
  EXPECT_EQ(restored->tokens(), context.tokens());
}

TEST_F(ContextsApi, AnotherModelsContextIsRefusedByFieldOrComputedAnew) {
  const auto tokens = SomeTokens(200, 14);
  {
    Engine engine = Open();
    Context context = New(engine);
    Append(context, tokens);
    ASSERT_TRUE(context.Save("foreign").ok());
  }
  Engine engine = OpenModel(Options(), "latent-super");
  const auto refused = engine.Restore("foreign");
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, Code::kUnsupported);
  const auto& fields = refused.error().fields;
  EXPECT_NE(std::find(fields.begin(), fields.end(), "model"), fields.end());
  EXPECT_FALSE(refused.error().hint.empty());
  Restored report;
  auto taken = engine.Restore(
      "foreign", {.on_mismatch = RestoreOptions::OnMismatch::kRecompute}, &report);
  ASSERT_TRUE(taken.ok()) << taken.error().ToString();
  EXPECT_FALSE(report.exact);
  EXPECT_EQ(report.state, 0);
  EXPECT_EQ(taken->tokens(), tokens);
  EXPECT_EQ(Draw(*taken, 3).size(), 3u);
}

TEST_F(ContextsApi, OtherNumericsAreNamed) {
  {
    Engine engine = Open();
    Context context = New(engine);
    Append(context, SomeTokens(200, 15));
    ASSERT_TRUE(context.Save("numbers").ok());
  }
  EngineOptions options = Options();
  options.activations = "f32";
  options.kv = "f32";
  const auto refused = OpenModel(options).Restore("numbers");
  ASSERT_FALSE(refused.ok());
  const auto& fields = refused.error().fields;
  EXPECT_NE(std::find(fields.begin(), fields.end(), "numerics"), fields.end());
}

TEST_F(ContextsApi, DamageCostsWhatNeedsTheRecordAndIsNamed) {
  Engine engine = Open();
  Context context = New(engine);
  const auto tokens = SomeTokens(600, 16);
  Append(context, {tokens.begin(), tokens.begin() + 200}, "early");
  Append(context, {tokens.begin() + 200, tokens.end()});
  const auto saved = context.Save("damaged");
  ASSERT_TRUE(saved.ok());
  // The last record is the deepest state: flip a byte in the last third of what is written.
  const auto length = std::filesystem::file_size(saved->path);
  bool found = false;
  for (uintmax_t back = 4096; back < length && !found; back += 4096) {
    const std::string copy = folder_ + "/copy.lctx";
    std::filesystem::copy_file(saved->path, copy,
                               std::filesystem::copy_options::overwrite_existing);
    {
      std::fstream file(copy, std::ios::in | std::ios::out | std::ios::binary);
      file.seekg(static_cast<std::streamoff>(length - back));
      const int byte = file.get();
      file.seekp(static_cast<std::streamoff>(length - back));
      file.put(static_cast<char>(byte ^ 0x40));
    }
    Restored report;
    auto restored = engine.Restore("copy", {.verify = true}, &report);
    if (!restored.ok() || report.damage.empty()) continue;
    found = true;
    EXPECT_LT(report.state, 599);
    EXPECT_EQ(restored->tokens(), tokens);
    EXPECT_EQ(Draw(*restored, 8), Cold(tokens, 8));  // computed anew from the last sound state
  }
  EXPECT_TRUE(found);
}

TEST_F(ContextsApi, APinOnDiskNeedsAName) {
  Engine engine = Open();
  Context nameless = New(engine);
  Append(nameless, SomeTokens(50, 21));
  EXPECT_FALSE(nameless.SetPin(Pin::kDisk).ok());
  nameless.SetName("now it has one");  // but none for a file
  EXPECT_FALSE(nameless.SetPin(Pin::kDisk).ok());
  Context named = New(engine, {.name = "kept"});
  Append(named, SomeTokens(50, 21));
  ASSERT_TRUE(named.SetPin(Pin::kDisk).ok());
  EXPECT_TRUE(std::filesystem::exists(folder_ + "/kept.lctx"));
}

}  // namespace
}  // namespace lode::v1
