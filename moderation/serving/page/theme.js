// Runs before the page is drawn, so that a chosen theme does not flash in.
try {
  const chosen = localStorage.getItem("moderation-theme");
  if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
} catch {
  // A browser that keeps nothing for pages: the system's theme.
}
