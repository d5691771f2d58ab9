#include "tune/atomic_folder.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

#include "base/file.h"
#include "base/text.h"

namespace lode::tune {
namespace {

namespace fs = std::filesystem;

void Remove(const std::string& path) {
  std::error_code ignored;
  fs::remove_all(path, ignored);
}

Result<void> SyncFolder(const std::string& path) {
  const int descriptor = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return SystemError("cannot open", path, errno);
  const int failed = fsync(descriptor) != 0 ? errno : 0;
  close(descriptor);
  if (failed != 0) return SystemError("cannot write", path, failed);
  return {};
}

std::string FolderOf(const std::string& path) {
  const std::string parent = fs::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

constexpr char kUnfinished[] = ".unfinished";

std::string HiddenName(const std::string& path) {
  return FolderOf(path) + "/." + fs::path(path).filename().string() + kUnfinished;
}

}  // namespace

void RemoveUnfinished(const std::string& folder) {
  const auto names = ListFolder(folder);
  if (!names.ok()) return;
  for (const std::string& name : *names) {
    const bool ours = (name.starts_with(".") && EndsWith(name, kUnfinished)) ||
                      name.find(".part-") != std::string::npos;  // base/file.h's
    if (ours) Remove(folder + "/" + name);
  }
}

void RemoveFolder(const std::string& path) {
  const std::string hidden = HiddenName(path);
  Remove(hidden);
  std::error_code failed;
  fs::rename(path, hidden, failed);
  Remove(failed ? path : hidden);
}

Result<AtomicFolder> AtomicFolder::Create(const std::string& path) {
  AtomicFolder folder;
  folder.path_ = path;
  const std::string temporary = HiddenName(path);
  Remove(temporary);
  LODE_TRY(MakeFolders(temporary));
  folder.temporary_ = temporary;
  return folder;
}

AtomicFolder::AtomicFolder(AtomicFolder&& other) noexcept
    : path_(std::move(other.path_)), temporary_(std::exchange(other.temporary_, "")) {}

AtomicFolder::~AtomicFolder() {
  if (!temporary_.empty()) Remove(temporary_);
}

Result<void> AtomicFolder::Commit() {
  LODE_TRY(SyncFolder(temporary_));
  // The old folder and the new one change places, so that there is always one.
  const bool replace = FileExists(path_) || IsFolder(path_);
  const unsigned flags = replace ? RENAME_EXCHANGE : 0;
  if (renameat2(AT_FDCWD, temporary_.c_str(), AT_FDCWD, path_.c_str(), flags) != 0) {
    return SystemError("cannot rename to", path_, errno);
  }
  LODE_TRY(SyncFolder(FolderOf(path_)));
  if (replace) Remove(temporary_);
  temporary_.clear();
  return {};
}

}  // namespace lode::tune
