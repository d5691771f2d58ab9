// Before the first paint: the colours that were chosen last time. No module, for those come later.
(function () {
  try {
    const chosen = localStorage.getItem('lode.theme');
    if (chosen === 'light' || chosen === 'dark') document.documentElement.dataset.theme = chosen;
  } catch (error) {
    // Storage is closed to this page: the system's colours it is.
  }
})();
