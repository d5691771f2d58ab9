#include "serve/ui/page.h"

#include <algorithm>
#include <array>

#include "base/check.h"

namespace lode::serve {
namespace {

struct Type {
  const char* ending;
  const char* content_type;
};

constexpr std::array<Type, 5> kTypes = {{
    {".html", "text/html; charset=utf-8"},
    {".css", "text/css; charset=utf-8"},
    {".mjs", "text/javascript; charset=utf-8"},
    {".js", "text/javascript; charset=utf-8"},
    {".svg", "image/svg+xml"},
}};

// Trusted types with no policy: the browser itself refuses to make elements of text. What a model
// writes is hostile, and the renderer of web/markdown_dom.mjs is not the only wall.
constexpr const char* kPolicy =
    "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'";

std::vector<PageFile> MakeFiles() {
  std::vector<PageFile> files;
  for (const RawPageFile& raw : RawPageFiles()) {
    const auto type = std::find_if(kTypes.begin(), kTypes.end(),
                                   [&](const Type& row) { return raw.ending == row.ending; });
    LODE_CHECK(type != kTypes.end());  // a file of a kind that nobody has named here
    const bool front = raw.name == "index.html";
    files.push_back(
        {front ? "/" : "/ui/" + std::string(raw.name), type->content_type, raw.tag, raw.bytes});
  }
  return files;
}

}  // namespace

const std::vector<PageFile>& PageFiles() {
  static const std::vector<PageFile> files = MakeFiles();
  return files;
}

const PageFile* FindPageFile(std::string_view path) {
  const auto& files = PageFiles();
  const auto found = std::find_if(files.begin(), files.end(),
                                  [&](const PageFile& file) { return file.path == path; });
  return found == files.end() ? nullptr : &*found;
}

std::vector<std::pair<std::string, std::string>> PageHeaders(const PageFile& file) {
  return {{"Content-Security-Policy", kPolicy},
          {"X-Content-Type-Options", "nosniff"},
          {"X-Frame-Options", "DENY"},
          {"Referrer-Policy", "no-referrer"},
          {"Cross-Origin-Opener-Policy", "same-origin"},
          {"Cross-Origin-Resource-Policy", "same-origin"},
          {"Permissions-Policy", "camera=(), microphone=(), geolocation=()"},
          {"Cache-Control", "no-cache"},
          {"ETag", std::string(file.tag)}};
}

}  // namespace lode::serve
