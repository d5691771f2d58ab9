#include "serve/ui/page.h"

#include <gtest/gtest.h>

#include <regex>
#include <set>
#include <string>

#include "base/file.h"

namespace lode::serve {
namespace {

std::string Text(const PageFile& file) { return std::string(file.bytes); }

TEST(Page, HasItsFilesByteForByte) {
  for (const PageFile& file : PageFiles()) {
    const std::string name = file.path == "/" ? "index.html" : file.path.substr(4);
    const auto own = ReadFile(LODE_SOURCE_DIR "/src/serve/ui/web/" + name);
    ASSERT_TRUE(own.ok()) << name;
    EXPECT_EQ(*own, Text(file)) << name;
  }
  ASSERT_NE(FindPageFile("/"), nullptr);
  EXPECT_EQ(FindPageFile("/")->content_type, "text/html; charset=utf-8");
  EXPECT_EQ(FindPageFile("/ui/index.html"), nullptr);
  EXPECT_EQ(FindPageFile("/ui/../page.cc"), nullptr);
  EXPECT_EQ(FindPageFile(""), nullptr);
}

// Offline from the binary: every file that another one names is there, and every file is named.
TEST(Page, NamesEveryFileAndNoOther) {
  std::set<std::string> named = {"/"};
  const std::regex html("(?:src|href)=\"(ui/[^\"]+)\"");
  const std::regex module("from '\\./([^']+)'");
  for (const PageFile& file : PageFiles()) {
    const std::string text = Text(file);
    for (std::sregex_iterator it(text.begin(), text.end(), file.path == "/" ? html : module), end;
         it != end; ++it) {
      const std::string path = (file.path == "/" ? "/" : "/ui/") + (*it)[1].str();
      EXPECT_NE(FindPageFile(path), nullptr) << file.path << " names " << path;
      named.insert(path);
    }
  }
  for (const PageFile& file : PageFiles()) EXPECT_TRUE(named.contains(file.path)) << file.path;
}

// Every file may run under the policy: no code or style in the markup, nothing that parses HTML, no
// address of anybody else.
TEST(Page, DoesNothingThatItsPolicyForbids) {
  const std::regex forbidden(
      "innerHTML|outerHTML|insertAdjacentHTML|document\\.write|\\beval\\(|new Function|"
      "<script>|\\son\\w+=\"|\\sstyle=\"|javascript:|@import|url\\(");
  const std::regex address("https?://[a-z0-9]");
  for (const PageFile& file : PageFiles()) {
    std::string text = Text(file);
    std::smatch found;
    EXPECT_FALSE(std::regex_search(text, found, forbidden)) << file.path << ": " << found.str();
    text = std::regex_replace(text, std::regex("http://www\\.w3\\.org/2000/svg"), "");
    EXPECT_FALSE(std::regex_search(text, found, address)) << file.path << ": " << found.str();
  }
}

TEST(Page, TellsBrowsersWhatItMayDo) {
  std::string policy;
  for (const PageFile& file : PageFiles()) {
    bool tag = false;
    for (const auto& [name, value] : PageHeaders(file)) {
      if (name == "Content-Security-Policy") policy = value;
      tag |= name == "ETag" && value.size() == 18 && value.front() == '"';
    }
    EXPECT_TRUE(tag) << file.path;
  }
  EXPECT_EQ(policy.find("unsafe"), std::string::npos);
  EXPECT_EQ(policy.find('*'), std::string::npos);
  EXPECT_NE(policy.find("default-src 'self'"), std::string::npos);
  EXPECT_NE(policy.find("frame-ancestors 'none'"), std::string::npos);
}

// It is small enough to be read, and to come over a slow line.
TEST(Page, StaysSmall) {
  size_t bytes = 0;
  for (const PageFile& file : PageFiles()) bytes += file.bytes.size();
  EXPECT_LT(bytes, size_t{160} << 10);
}

}  // namespace
}  // namespace lode::serve
