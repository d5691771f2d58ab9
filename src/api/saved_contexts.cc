#include "api/saved_contexts.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <map>
#include <memory>
#include <utility>

#include "api/contexts.h"
#include "base/file.h"
#include "base/text.h"
#include "runtime/saved/context_file.h"

namespace lode::api {
namespace {

using runtime::ContextFile;
using runtime::ContextSaveReport;
using runtime::ContextStore;

std::string PathOf(const ContextStore& store, const std::string& name) {
  return store.folder() + "/" + name + ".lctx";
}

Result<void> CheckFree(const ContextStore& store, const std::string& name) {
  LODE_TRY(ContextStore::CheckName(name));
  if (!FileExists(PathOf(store, name))) return {};
  return Error(Code::kBadInput, "there is a saved context " + Quote(name, 120) + " already",
               "take another name, or remove it with `lode ctx rm`");
}

Result<int64_t> CheckOffset(const ContextFile& file, std::optional<int64_t> at) {
  const auto size = static_cast<int64_t>(file.tokens().size());
  const int64_t tokens = at.value_or(size);
  if (1 <= tokens && tokens <= size) return tokens;
  return Error(Code::kBadInput, Format("saved context %s has %lld tokens, and %lld were asked for",
                                       Quote(file.name(), 120).c_str(),
                                       static_cast<long long>(size),
                                       static_cast<long long>(tokens)));
}

// The first `tokens` tokens of a file, as a delta of it under another name (or its own): of pages
// and states only where they are is written.
Result<ContextSaveReport> WriteDelta(ContextStore* store, const ContextFile& file,
                                     const std::string& target, int64_t tokens,
                                     const runtime::Sealer* sealer) {
  const runtime::ContextGeometry& geometry = file.geometry();
  runtime::ContextImage image;
  image.geometry = geometry;
  image.fingerprints = file.fingerprints();
  image.tokens = file.tokens().first(static_cast<size_t>(tokens));
  for (const runtime::ContextRun& run : file.runs()) {
    if (run.first < tokens) image.runs.push_back(run);
  }
  const int64_t pages = geometry.page_bytes == 0 ? 0 : runtime::PageCount(tokens);
  image.pages.resize(static_cast<size_t>(std::min(pages, file.pages())));
  // Inherited: nobody looks at the bytes.
  const std::vector<std::byte> state(geometry.slot_bytes);
  for (const int64_t point : file.Points()) {
    if (point > tokens) continue;
    image.snapshots.push_back({point, state, {}, file.Tag(point)});
  }
  image.meta = file.meta();
  if (Json* marks = image.meta.contains("marks") ? &image.meta["marks"] : nullptr;
      marks != nullptr && marks->is_object()) {
    Json left = Json::object();
    for (const auto& [mark, at] : marks->items()) {
      if (at.is_number_integer() && at.get<int64_t>() <= tokens) left[mark] = at;
    }
    *marks = std::move(left);
  }
  if (tokens < std::ssize(file.tokens())) image.meta.erase("messages");  // they say more
  runtime::ContextSaveOptions save;
  save.parent = file.name();
  save.sealer = sealer;
  save.zstd_level = file.compressed() ? 1 : 0;
  return store->Save(target, image, save);
}

Result<std::unique_ptr<ContextFile>> OpenSound(const ContextStore& store, const std::string& name,
                                               const runtime::Sealer* sealer) {
  runtime::ContextOpenOptions open;
  open.name_foreign = true;
  open.sealer = sealer;
  LODE_ASSIGN(auto file, store.OpenContext(name, open));
  if (const auto damage = file->damage(); !damage.empty()) {
    return Error(Code::kBadInput,
                 "saved context " + Quote(name, 120) + " is damaged: " + damage[0].what + ": " +
                     damage[0].reason,
                 "`lode ctx verify` says what is left of it");
  }
  return file;
}

}  // namespace

Result<ContextSaveReport> ForkSaved(ContextStore* store, const std::string& name,
                                    const std::string& target, std::optional<int64_t> at,
                                    const runtime::Sealer* sealer) {
  LODE_TRY(CheckFree(*store, target));
  LODE_ASSIGN(auto file, OpenSound(*store, name, sealer));
  LODE_ASSIGN(const int64_t tokens, CheckOffset(*file, at));
  LODE_ASSIGN(ContextSaveReport report, WriteDelta(store, *file, target, tokens, sealer));
  const bool shares = file->Points().empty() || file->Points().front() > tokens;
  if (report.delta || shares) return report;
  // It is the last of a long chain, or its folder takes no second names: a file of its own.
  LODE_TRY(store->Remove(target));
  runtime::ContextSaveOptions save;
  save.sealer = sealer;
  save.zstd_level = file->compressed() ? 1 : 0;
  runtime::ContextOpenOptions open;
  open.name_foreign = true;
  open.sealer = sealer;
  file.reset();
  LODE_ASSIGN(report, store->Flatten(name, target, save, open));
  if (at) return TruncateSaved(store, target, tokens, sealer);
  return report;
}

Result<ContextSaveReport> TruncateSaved(ContextStore* store, const std::string& name,
                                        int64_t tokens, const runtime::Sealer* sealer) {
  LODE_ASSIGN(auto file, OpenSound(*store, name, sealer));
  LODE_TRY(CheckOffset(*file, tokens));
  const bool whole = !file->is_delta();
  const bool compressed = file->compressed();
  LODE_ASSIGN(ContextSaveReport report, WriteDelta(store, *file, name, tokens, sealer));
  file.reset();
  if (!report.delta || !whole) return report;
  // What it was a file of its own for goes now.
  runtime::ContextSaveOptions save;
  save.sealer = sealer;
  save.zstd_level = compressed ? 1 : 0;
  runtime::ContextOpenOptions open;
  open.name_foreign = true;
  open.sealer = sealer;
  return store->Flatten(name, name, save, open);
}

Result<ContextSaveReport> ExportSaved(ContextStore* store, const std::string& name,
                                      const std::string& path,
                                      const runtime::ContextSaveOptions& save,
                                      const runtime::ContextOpenOptions& open) {
  // Written in the store, which knows how, then moved.
  const std::string aside = Format("export-%d-%s", ::getpid(), name.substr(0, 60).c_str());
  LODE_ASSIGN(ContextSaveReport report, store->Flatten(name, aside, save, open));
  const std::string written = PathOf(*store, aside);
  if (::rename(written.c_str(), path.c_str()) == 0) return report;
  if (errno != EXDEV) {
    const Error error = SystemError("cannot write", path, errno);
    (void)store->Remove(aside);
    return error;
  }
  const auto copied = [&]() -> Result<void> {
    LODE_ASSIGN(const auto source, MappedFile::Open(written));
    LODE_ASSIGN(AtomicFile target, AtomicFile::Create(path));
    LODE_TRY(target.Write(source->bytes().data(), source->bytes().size()));
    return target.Commit();
  }();
  (void)store->Remove(aside);
  if (!copied.ok()) return copied.error();
  return report;
}

Result<void> ImportSaved(ContextStore* store, const std::string& path, const std::string& name,
                         bool replace, const runtime::ContextOpenOptions& open) {
  LODE_TRY(ContextStore::CheckName(name));
  if (!replace) LODE_TRY(CheckFree(*store, name));
  LODE_ASSIGN(const auto file, ContextFile::OpenPath(path, open));
  if (file->is_delta()) {
    return Error(Code::kBadInput,
                 path + ": holds only what differs from " + Quote(file->parent_name(), 120),
                 "where it was made, `lode ctx save` writes a file that stands alone");
  }
  LODE_TRY(file->VerifyAll());
  if (const auto damage = file->damage(); !damage.empty()) {
    return Error(Code::kBadInput,
                 path + ": is damaged: " + damage[0].what + ": " + damage[0].reason,
                 "copy it again");
  }
  LODE_ASSIGN(const auto source, MappedFile::Open(path));
  LODE_ASSIGN(AtomicFile target, AtomicFile::Create(PathOf(*store, name)));
  LODE_TRY(target.Write(source->bytes().data(), source->bytes().size()));
  LODE_TRY(target.Commit());
  if (::chmod(PathOf(*store, name).c_str(), 0600) != 0) {
    return SystemError("cannot change the mode of", PathOf(*store, name), errno);
  }
  return {};
}

namespace {

bool Expired(const ContextFile& file, int64_t used) {
  const Json* ttl = FindKey(file.meta(), "ttl_seconds");
  if (ttl == nullptr || !ttl->is_number() || ttl->get<double>() <= 0.0) return false;
  return static_cast<double>(std::time(nullptr)) - static_cast<double>(used) > ttl->get<double>();
}

}  // namespace

Result<Garbage> CollectSaved(ContextStore* store, uint64_t bytes_max, bool dry_run) {
  LODE_ASSIGN(const auto entries, store->List());
  // Files by their digest: those of the contexts, and of what deltas lean on.
  struct Part {
    uint64_t bytes = 0;
    int64_t users = 0;
  };
  std::map<runtime::ContextDigest, Part> parts;
  std::map<std::string, std::vector<runtime::ContextDigest>> needs;
  std::vector<SavedUse> all;
  for (const runtime::ContextEntry& entry : entries) {
    SavedUse use;
    use.name = entry.name;
    use.own_bytes = entry.bytes;
    use.kept = IsKept(*store, entry.name);
    use.used = LastUse(*store, entry.name);
    runtime::ContextOpenOptions open;
    open.name_foreign = true;
    const auto file = store->OpenContext(entry.name, open);
    if (file.ok()) {
      use.expired = !use.kept && Expired(**file, use.used);
      for (const ContextFile* at = file->get(); at != nullptr; at = at->parent()) {
        Part& part = parts[at->digest()];
        part.bytes = at->file_bytes();
        ++part.users;
        needs[entry.name].push_back(at->digest());
      }
    }
    all.push_back(std::move(use));
  }
  std::stable_sort(all.begin(), all.end(),
                   [](const SavedUse& a, const SavedUse& b) {
                     return std::pair(!a.expired, a.used) < std::pair(!b.expired, b.used);
                   });
  Garbage garbage;
  for (const auto& [digest, part] : parts) garbage.bytes_before += part.bytes;
  for (const SavedUse& use : all) {  // sealed or broken ones, whose parts nobody could look at
    if (needs[use.name].empty()) garbage.bytes_before += use.own_bytes;
  }
  garbage.bytes_after = garbage.bytes_before;
  for (SavedUse& use : all) {
    if (!use.expired && garbage.bytes_after <= bytes_max) break;
    if (use.kept) {
      garbage.kept.push_back(use);
      continue;
    }
    if (needs[use.name].empty()) use.freed_bytes = use.own_bytes;
    for (const runtime::ContextDigest& digest : needs[use.name]) {
      Part& part = parts[digest];
      if (--part.users == 0) use.freed_bytes += part.bytes;
    }
    if (!dry_run) LODE_TRY(store->Remove(use.name));
    garbage.bytes_after -= std::min(garbage.bytes_after, use.freed_bytes);
    garbage.removed.push_back(use);
  }
  return garbage;
}

}  // namespace lode::api
