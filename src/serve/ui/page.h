// The page at "/": its files, which are in the program, and the headers that they are served with.
// What the page does is in web/; it needs no build step and fetches nothing from elsewhere.
// Threads: free for all.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace lode::serve {

struct RawPageFile {
  std::string_view name, ending;  // "main.mjs", ".mjs"
  std::string_view tag;           // an ETag of the bytes, with its quotes
  std::string_view bytes;
};

// As the build found them.
std::vector<RawPageFile> RawPageFiles();

struct PageFile {
  std::string path;  // "/" or "/ui/main.mjs"
  std::string_view content_type, tag, bytes;
};

const std::vector<PageFile>& PageFiles();
// Null: the page has no such file.
const PageFile* FindPageFile(std::string_view path);

// Headers of every file: what the page may do in a browser (nothing but talk to this server), and
// that a copy is asked about before it is used.
std::vector<std::pair<std::string, std::string>> PageHeaders(const PageFile& file);

}  // namespace lode::serve
