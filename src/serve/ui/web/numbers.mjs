// Numbers as people read them.
export const count = (value) => Math.round(value).toLocaleString('en');

export function bytes(value) {
  const units = ['B', 'KB', 'MB', 'GB', 'TB'];
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${value.toFixed(value < 10 && unit > 0 ? 1 : 0)} ${units[unit]}`;
}

export const rate = (value) => `${value.toFixed(value < 10 ? 1 : 0)} tok/s`;

export function seconds(value) {
  if (value < 10) return `${value.toFixed(value < 1 ? 2 : 1)} s`;
  if (value < 100) return `${Math.round(value)} s`;
  return `${Math.floor(value / 60)} min ${Math.round(value % 60)} s`;
}

// A line about an answer: {rate, firstSeconds, tokens, thinking, prompt, cached}, each may be null.
export function statsLine(stats) {
  const parts = [];
  if (stats.rate !== null && stats.rate !== undefined) parts.push(rate(stats.rate));
  if (stats.firstSeconds) parts.push(`first token ${seconds(stats.firstSeconds)}`);
  if (stats.tokens) {
    const thought = stats.thinking ? `, ${count(stats.thinking)} of them thinking` : '';
    parts.push(`${count(stats.tokens)} tokens${thought}`);
  }
  if (stats.prompt) {
    parts.push(stats.cached ? `${count(stats.cached)} of ${count(stats.prompt)} read from cache`
                            : `${count(stats.prompt)} read`);
  }
  return parts.join(' · ');
}
