#include "runtime/console/line_editor.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include <histedit.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "runtime/console/history.hpp"

namespace varve::console {

namespace {

// More would say nothing.
constexpr size_t shown_max = 100;

size_t terminal_columns() {
  winsize x{};
  return ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &x) == 0 && x.ws_col > 0 ? x.ws_col : 80;
}

// In columns, below the line that is being typed.
void show(const std::vector<std::string>& candidates) {
  size_t width = 0;
  // The last name of a path is enough.
  std::vector<std::string> names;
  for (const auto& x : candidates) {
    const auto end = x.size() - (x.ends_with('/') ? 1 : 0);
    const auto slash = end == 0 ? std::string::npos : x.rfind('/', end - 1);
    names.push_back(slash == std::string::npos ? x : x.substr(slash + 1));
    width = std::max(width, names.back().size() + 2);
  }
  const auto columns = std::max<size_t>(1, terminal_columns() / width);
  std::fputc('\n', stdout);
  for (size_t i = 0; i < names.size() && i < shown_max; ++i) {
    const bool ends_line = (i + 1) % columns == 0 || i + 1 == names.size() || i + 1 == shown_max;
    if (ends_line)
      std::fprintf(stdout, "%s\n", names[i].c_str());
    else
      std::fprintf(stdout, "%-*s", static_cast<int>(width), names[i].c_str());
  }
}

} // namespace

struct line_editor::parts {
  std::string prompt;
  completer complete;
  EditLine* editor = nullptr;
  History* history = nullptr;

  static parts& of(EditLine* editor) {
    void* x = nullptr;
    el_get(editor, EL_CLIENTDATA, &x);
    return *static_cast<parts*>(x);
  }

  static char* show_prompt(EditLine* editor) { return of(editor).prompt.data(); }

  static unsigned char on_tab(EditLine* editor, int) { return of(editor).tab(); }

  unsigned char tab() const {
    const LineInfo* line = el_line(editor);
    const std::string_view typed{line->buffer, static_cast<size_t>(line->cursor - line->buffer)};
    const auto found = complete(typed);
    if (found.candidates.empty())
      return CC_ERROR;
    auto text = found.common();
    const auto last = typed.substr(found.from);
    const bool only = found.candidates.size() == 1;
    if (only && !text.ends_with('/'))
      text += ' ';
    if (text == last) { // nothing to add: say what there is
      show(found.candidates);
      return CC_REDISPLAY;
    }
    el_deletestr(editor, static_cast<int>(last.size()));
    if (el_insertstr(editor, text.c_str()) != 0)
      return CC_ERROR;
    return CC_REFRESH;
  }
};

line_editor::line_editor(std::string prompt, completer complete) : parts_(std::make_unique<parts>()) {
  parts_->prompt = std::move(prompt);
  parts_->complete = std::move(complete);
  auto* editor = parts_->editor = el_init("varve", stdin, stdout, stderr);
  parts_->history = history_init();
  HistEvent ignored;
  ::history(parts_->history, &ignored, H_SETSIZE, static_cast<int>(history::lines_max));
  ::history(parts_->history, &ignored, H_SETUNIQUE, 1);
  el_set(editor, EL_CLIENTDATA, parts_.get());
  el_set(editor, EL_PROMPT, &parts::show_prompt);
  el_set(editor, EL_EDITOR, "emacs");
  el_set(editor, EL_HIST, ::history, parts_->history);
  el_set(editor, EL_ADDFN, "varve-complete", "Complete what is being typed", &parts::on_tab);
  el_set(editor, EL_BIND, "^I", "varve-complete", nullptr);
  el_set(editor, EL_BIND, "^R", "em-inc-search-prev", nullptr);
  el_source(editor, nullptr); // the user's own keys
}

line_editor::~line_editor() {
  history_end(parts_->history);
  el_end(parts_->editor);
}

line_editor::outcome line_editor::read(std::string& line) {
  int count = 0;
  // libedit does so only after the prompt: a Ctrl-D typed in between is the end of a file to the terminal, and lost.
  el_set(parts_->editor, EL_PREP_TERM, 1);
  errno = 0;
  const char* text = el_gets(parts_->editor, &count);
  if (!text || count <= 0) {
    const bool interrupted = errno == EINTR;
    // It is in the middle of a line that nobody will finish.
    el_reset(parts_->editor);
    return interrupted ? outcome::interrupted : outcome::end;
  }
  line.assign(text, static_cast<size_t>(count));
  while (line.ends_with('\n') || line.ends_with('\r'))
    line.pop_back();
  return outcome::line;
}

void line_editor::remember(const std::string& line) {
  HistEvent ignored;
  if (!line.empty())
    ::history(parts_->history, &ignored, H_ENTER, line.c_str());
}

} // namespace varve::console
