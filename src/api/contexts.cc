#include "api/contexts.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/file.h"
#include "base/text.h"
#include "hub/store.h"
#include "kernels/isa.h"
#include "runtime/saved/context_chain.h"

namespace lode::api {
namespace {

// Changes whenever kernels sum in another order: then old states would not continue with these
// bits.
constexpr int kKernelSet = 1;

}  // namespace

Result<std::string> ContextFolder() {
  LODE_ASSIGN(const hub::Store models, hub::Store::OfUser());
  return models.home() + "/contexts";
}

Result<runtime::ContextStore> OpenContexts() {
  LODE_ASSIGN(const std::string folder, ContextFolder());
  return runtime::ContextStore::Open(folder);
}

Result<runtime::ContextFingerprints> FingerprintsOf(const tensor::TensorSource& source,
                                                    const model::Numerics& numerics,
                                                    int64_t vocabulary, const TextTools* tools,
                                                    const DigestProgress& progress) {
  runtime::ContextFingerprints prints;
  prints.model.label = source.path();
  LODE_ASSIGN(prints.model.digest, ModelDigest(source, progress));
  if (tools != nullptr) {
    std::string words;
    for (int32_t id = 0; id < static_cast<int32_t>(vocabulary); ++id) {
      const auto text = tools->tokenizer->Decode({&id, 1});
      words += text.ok() ? *text : "";
      words += '\0';
    }
    prints.tokenizer = {runtime::Sha256(words), source.path()};
    prints.chat_template = {runtime::Sha256(tools->template_source), source.path()};
  }
  const std::string text =
      Format("kernels %d, %s, activations %d, kv %s", kKernelSet, Name(kernels::ActiveIsa()),
             static_cast<int>(numerics.activations), Name(numerics.kv));
  prints.numerics = {runtime::Sha256(text), text};
  return prints;
}

Result<runtime::ContextFingerprints> FingerprintsOf(const Running& running, const TextTools* tools,
                                                    const DigestProgress& progress) {
  return FingerprintsOf(*running.source, running.options.numerics, running.model->spec.vocabulary,
                        tools, progress);
}

void MarkUsed(const runtime::ContextStore& store, const std::string& name) {
  const timespec times[2] = {{0, UTIME_OMIT}, {0, UTIME_NOW}};
  (void)::utimensat(AT_FDCWD, (store.folder() + "/" + name + ".lctx").c_str(), times,
                    AT_SYMLINK_NOFOLLOW);
}

int64_t LastUse(const runtime::ContextStore& store, const std::string& name) {
  struct stat info;
  const std::string path = store.folder() + "/" + name + ".lctx";
  if (::lstat(path.c_str(), &info) != 0) return 0;
  return info.st_mtime;
}

Result<void> KeepSaved(const runtime::ContextStore& store, const std::string& name, bool keep) {
  LODE_TRY(runtime::ContextStore::CheckName(name));
  const std::string path = store.folder() + "/" + name + ".keep";
  if (keep) {
    if (!FileExists(store.folder() + "/" + name + ".lctx")) {
      return Error(Code::kNotFound, "there is no saved context " + Quote(name, 120),
                   "`lode ctx ls` lists them");
    }
    return WriteFileAtomic(path, "");
  }
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) {
    return SystemError("cannot remove", path, errno);
  }
  return {};
}

bool IsKept(const runtime::ContextStore& store, const std::string& name) {
  return FileExists(store.folder() + "/" + name + ".keep");
}

}  // namespace lode::api
