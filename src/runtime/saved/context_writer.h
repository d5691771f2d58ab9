// The saving side, without a store: a plan says which records a file will have, a writer puts them
// into a part and makes the part the file. For context_store.cc.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "runtime/saved/context_disk.h"
#include "runtime/saved/context_file.h"
#include "runtime/saved/context_format.h"
#include "runtime/saved/context_payload.h"
#include "runtime/saved/context_store.h"

namespace lode::runtime {

// One record to come.
struct ContextPlanItem {
  RecordType type;
  int64_t first_token = 0;
  uint32_t rows = 0;
  uint64_t chain = 0;
  uint64_t raw_bytes = 0;
  bool compress = false;  // if the file is compressed at all
  // The bytes; may be put into the buffer.
  std::function<Result<std::span<const std::byte>>(std::vector<std::byte>*)> payload;
};

struct ContextPlan {
  ContextSuperblock superblock;  // salt and time of creation are still to be chosen
  std::vector<ContextPlanItem> items;
  uint64_t raw_bytes = 0;
  ContextSaveReport counts;  // pages and states
};

// `parent`: what it holds is left out; nullptr: everything is written. Errors: kBadInput for an
// image that contradicts itself. The image's spans must outlive the plan.
Result<ContextPlan> PlanImage(const std::string& name, const ContextImage& image,
                              const ContextFile* parent, const ContextSaveOptions& options);
// A saved context, self-contained. The file must outlive the plan.
Result<ContextPlan> PlanFile(const std::string& name, const ContextFile& file,
                             const ContextSaveOptions& options);

// Life: one save. Holds the part's lock from Open to its end.
class ContextWriter {
 public:
  // `folder`: an open one; `folder_path` is for errors.
  ContextWriter(Disk* disk, int folder, std::string folder_path, std::string name)
      : disk_(disk),
        folder_(folder),
        folder_path_(std::move(folder_path)),
        name_(std::move(name)) {}
  ~ContextWriter();
  ContextWriter(const ContextWriter&) = delete;
  ContextWriter& operator=(const ContextWriter&) = delete;

  static std::string PartName(const std::string& name) { return "." + name + ".part"; }
  static std::string FileName(const std::string& name) { return name + ".lctx"; }

  // Opens the part and locks it. Errors: kBadInput when somebody else is writing it.
  Result<void> Open();
  // Everything up to the rename and the folder's sync.
  Result<ContextSaveReport> Run(const ContextPlan& plan, const ContextSaveOptions& options);

 private:
  Result<void> Prepare(const ContextPlan& plan, const ContextSaveOptions& options);
  // Whether the part has this plan's superblock; if so its salt and time are taken over.
  bool AdoptHead(const ContextPlan& plan, const ContextSaveOptions& options);
  Result<void> BeginAnew(const ContextPlan& plan, const ContextSaveOptions& options);
  // How many records are there already, exactly as they would be written.
  size_t KeepRecords(const ContextPlan& plan);
  bool KeepRecord(const ContextPlanItem& item, uint32_t sequence);
  Result<void> CheckRoom(const ContextPlan& plan, size_t kept) const;
  Result<void> WriteItem(const ContextPlanItem& item, uint32_t sequence, int level);
  Result<void> WriteFooter();
  Result<void> Publish();

  PayloadKey Key() const;
  ContextRecord Describe(const ContextPlanItem& item, uint32_t sequence) const;
  void Append(const ContextRecord& record);
  Result<void> WriteAll(std::vector<iovec> pieces, uint64_t offset);
  bool ReadAll(uint64_t offset, std::span<std::byte> target);
  Error Failed(const char* what, int error_number) const;

  Disk* disk_;
  int folder_;
  std::string folder_path_;
  std::string name_;
  int part_ = -1;
  const Sealer* sealer_ = nullptr;
  ContextSuperblock superblock_;
  FactsBytes facts_{};
  ContextNonce nonce_{};  // 8 random bytes of this attempt, then the sequence number
  std::vector<std::byte> index_;
  uint64_t end_ = 0;
  ContextSaveReport report_;
};

}  // namespace lode::runtime
