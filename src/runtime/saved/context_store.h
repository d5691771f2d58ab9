// A folder of saved contexts: save, open, list, remove. Saving is atomic (the old file or the new
// one, whatever happens), resumable (a NAME.part holds sound records of an interrupted save), and
// may be a delta, which holds only what another saved context does not.
//
//   FOLDER/NAME.lctx             a context
//   FOLDER/.NAME.part            a save under way, or what a crash left of one; locked meanwhile
//   FOLDER/.base-DIGEST.lctx     a file that some delta reads from: one more link to it, so that
//                                the context may be removed or saved anew without harm to deltas
//   FOLDER/.lock                 held by savers (shared) and sweepers (alone)
//
// Names are names, never paths; files are 0600 and no link is followed beneath the folder. One
// folder belongs to one owner: give each tenant its own.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "runtime/saved/context_file.h"

namespace lode::runtime {

class Disk;
class Sealer;
struct ContextPlan;  // context_writer.h

struct ContextSaveOptions {
  // A delta of this context in the same store; its own name is allowed. One that is absent, damaged
  // or of another kind is no error: everything is written then.
  std::string parent;
  // Deltas of deltas up to so many; one more is saved whole instead (SaveReport::delta says so).
  int chain_max = 16;
  int zstd_level = 0;              // 0: raw, which can be mapped
  const Sealer* sealer = nullptr;  // encrypts and signs every record
  bool resume = true;              // keep sound records of an interrupted save
  // Called after each record with bytes done and bytes in all (before compression). False: stop
  // with kCancelled; the part stays and the next Save goes on from there.
  std::function<bool(uint64_t done, uint64_t total)> progress;
  int64_t created = -1;  // seconds since 1970; below 0: now
};

struct ContextSaveReport {
  uint64_t file_bytes = 0;
  uint64_t written_bytes = 0;   // of payloads, in this call
  uint64_t kept_bytes = 0;      // of payloads, that an interrupted save had already written
  int64_t pages_written = 0;    // in the file
  int64_t pages_inherited = 0;  // left to the parent
  int64_t states_written = 0;
  int64_t states_inherited = 0;
  bool delta = false;
  ContextDigest digest{};
  double seconds = 0.0;
  double sync_seconds = 0.0;  // of these, waiting for the disk
};

struct ContextEntry {
  std::string name;
  uint64_t bytes = 0;  // of its file, holes included
  int64_t tokens = 0;
  int64_t created = 0;  // seconds since 1970
  bool delta = false, sealed = false, compressed = false;
  std::string parent;   // a delta's, by its name when it was made
  std::string trouble;  // why it cannot be opened; the numbers are zero then
};

struct ContextSweepReport {
  int64_t parts = 0, bases = 0;  // removed
  int64_t busy = 0;              // parts that somebody is writing
  uint64_t bytes = 0;            // given back
};

class ContextStore {
 public:
  // Makes the folder (0700) unless it is there. `disk`: nullptr for the system's calls; must
  // outlive the store.
  static Result<ContextStore> Open(const std::string& folder, Disk* disk = nullptr);
  ~ContextStore();
  ContextStore(ContextStore&& other) noexcept;
  ContextStore& operator=(ContextStore&& other) noexcept;

  // 1 to 100 letters, digits, '.', '_', '-' in ASCII, the first a letter or digit.
  static Result<void> CheckName(const std::string& name);
  const std::string& folder() const { return folder_; }

  // Errors: kBadInput for an image that contradicts itself (sizes, order of offsets) and when
  // another save of this name is under way; kNoSpace with the bytes needed and free; those of the
  // disk. The old file stays in all these cases. Threads: any, also several at once.
  Result<ContextSaveReport> Save(const std::string& name, const ContextImage& image,
                                 const ContextSaveOptions& options = {});
  // The same context under `target` (may be the same name), self-contained, with other options if
  // wanted; `options.parent` must be empty. Damage in the file is an error.
  Result<ContextSaveReport> Flatten(const std::string& name, const std::string& target,
                                    const ContextSaveOptions& options,
                                    const ContextOpenOptions& open = {});

  // With the parents of a delta. Errors: kNotFound; kUnsupported for a newer major version;
  // kBadInput for damage beyond repair and for a wrong or missing key, with a sentence that says
  // which.
  Result<std::unique_ptr<ContextFile>> OpenContext(const std::string& name,
                                                   const ContextOpenOptions& options = {}) const;

  // Of one tenant, by name; other tenants' files do not show. Reads heads only.
  Result<std::vector<ContextEntry>> List(const ContextDigest& tenant = {}) const;
  // Removes the context, its unfinished save, and bases that no delta needs any more.
  Result<void> Remove(const std::string& name, const ContextDigest& tenant = {});
  // What the folder's files take on the disk, each counted once.
  Result<uint64_t> Bytes() const;
  // Removes unfinished saves that nobody writes and that are older than `part_age_seconds`, and
  // bases without deltas. For the start of a program.
  Result<ContextSweepReport> Sweep(int64_t part_age_seconds = 0);

 private:
  ContextStore();
  // kNotFound when the name belongs to another tenant's file.
  Result<void> CheckOwner(const std::string& name, const ContextDigest& tenant) const;
  // What a delta may lean on; nullptr: save whole.
  std::unique_ptr<ContextFile> OpenParent(const ContextImage& image,
                                          const ContextSaveOptions& options) const;
  Result<ContextSaveReport> Write(const std::string& name, const ContextPlan& plan,
                                  const ContextSaveOptions& options);

  std::string folder_;
  int descriptor_ = -1;  // of the folder
  std::unique_ptr<Disk> own_disk_;
  Disk* disk_ = nullptr;
};

}  // namespace lode::runtime
