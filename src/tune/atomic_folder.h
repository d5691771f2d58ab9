// A folder that appears under its name whole or not at all, whatever happens meanwhile.
// Threads: one. Errors: what the system says.
#pragma once

#include <string>

#include "base/result.h"

namespace lode::tune {

class AtomicFolder {
 public:
  // An empty folder beside `path`, hidden; what an earlier one left there is removed.
  static Result<AtomicFolder> Create(const std::string& path);
  // Removes it unless it was committed.
  ~AtomicFolder();
  AtomicFolder(AtomicFolder&& other) noexcept;
  AtomicFolder& operator=(AtomicFolder&&) = delete;

  // Where to write; files are synced by who writes them (base/file.h).
  const std::string& temporary() const { return temporary_; }
  // Takes the place of what is at `path`.
  Result<void> Commit();

 private:
  AtomicFolder() = default;
  std::string path_, temporary_;  // empty temporary: nothing to remove
};

// Removes what an AtomicFolder or AtomicFile left behind in `folder` when its process was killed.
void RemoveUnfinished(const std::string& folder);

// Removes a folder; whenever that ends, none is left half full under its name.
void RemoveFolder(const std::string& path);

}  // namespace lode::tune
