// Where tests find data that does not live in the repository: the folder ../shared beside a checkout,
// or whatever LODE_SHARED names. It is optional; a test that cannot do without it skips and says why.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

namespace lode::testing {

// The path of FILE inside ../shared, or an empty string when it is not there.
inline std::string SharedFile(const std::string& file) {
  const char* env = std::getenv("LODE_SHARED");
  const std::filesystem::path root =
      env != nullptr ? std::filesystem::path(env)
                     : std::filesystem::path(LODE_SOURCE_DIR).parent_path() / "shared";
  const std::filesystem::path path = root / file;
  return std::filesystem::exists(path) ? path.string() : std::string();
}

// The path of a file of the repository's own tests/ folder.
inline std::string TestFile(const std::string& file) {
  return std::string(LODE_SOURCE_DIR) + "/tests/" + file;
}

}  // namespace lode::testing

#define LODE_NEEDS_SHARED(variable, file)                                   \
  const std::string variable = ::lode::testing::SharedFile(file);           \
  if (variable.empty()) GTEST_SKIP() << "../shared/" << (file) << " is not here"
