// For tests of the public interface: an engine on a tiny model, with a folder of its own.
#pragma once

#include <gtest/gtest.h>
#include <lode/context.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

namespace lode::v1 {

inline std::string Golden(const std::string& name) {
  return std::string(LODE_SOURCE_DIR) + "/tests/golden/" + name;
}

inline std::vector<Token> SomeTokens(int64_t count, uint32_t seed) {
  std::vector<Token> tokens;
  for (int64_t i = 0; i < count; ++i) {
    seed = seed * 1664525u + 1013904223u;
    tokens.push_back(static_cast<Token>((seed >> 16) % 97));
  }
  return tokens;
}

class ContextsApi : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "lode-api-XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  EngineOptions Options() const {
    EngineOptions options;
    options.threads = 2;
    options.context_tokens = 4096;
    options.cache_bytes = 64 << 20;
    options.rows_max = 64;
    options.folder = folder_;
    return options;
  }
  static Engine OpenModel(const EngineOptions& options, const std::string& model = "moe-nano") {
    auto engine = Engine::Open(Golden(model), options);
    EXPECT_TRUE(engine.ok()) << engine.error().ToString();
    return std::move(*engine);
  }
  Engine Open() const { return OpenModel(Options()); }
  static Context New(Engine& engine, const ContextOptions& options = {}) {
    auto context = engine.NewContext(options);
    EXPECT_TRUE(context.ok());
    return std::move(*context);
  }
  static Appended Append(Context& context, const std::vector<Token>& tokens,
                         const std::string& mark = "") {
    auto appended = context.Append(tokens, {mark});
    EXPECT_TRUE(appended.ok()) << appended.error().ToString();
    return appended.ok() ? *appended : Appended{};
  }
  static std::vector<Token> Draw(Context& context, int64_t count, uint64_t seed = 1,
                                 Reuse* reuse = nullptr) {
    GenerateOptions options;
    options.tokens_max = count;
    options.sampling.temperature = 1.0;
    options.sampling.seed = seed;
    options.model_stops = false;
    auto generated = context.Generate(options);
    EXPECT_TRUE(generated.ok()) << generated.error().ToString();
    if (!generated.ok()) return {};
    if (reuse != nullptr) *reuse = generated->reuse;
    return generated->tokens;
  }
  // What a context that was never anything else draws after these tokens.
  std::vector<Token> Cold(const std::vector<Token>& tokens, int64_t count, uint64_t seed = 1) {
    Engine engine = Open();
    Context context = New(engine);
    Append(context, tokens);
    return Draw(context, count, seed);
  }

  std::string folder_;
};

}  // namespace lode::v1
