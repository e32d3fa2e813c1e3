#pragma once

#include <string>

namespace varve {

/// A folder of a node with its lock in it: one varved for each. The lock ends with this, or with the process.
class locked_folder {
public:
  enum class outcome { taken, in_use, failed };

  locked_folder() = default;
  locked_folder(const locked_folder&) = delete;
  locked_folder& operator=(const locked_folder&) = delete;
  ~locked_folder();

  /// Makes the folder if need be (0700) and locks it; blocks for the disk only. When it is not taken, `problem` says
  /// why, and names `option` as the way to another folder.
  outcome take(const std::string& path, const char* option, std::string& problem);

private:
  int fd_ = -1;
};

} // namespace varve
