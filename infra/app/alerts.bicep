// Mails somebody when calls fail, are slow, do not reach the database, or are refused. The queries read what Rowgate
// exports (src/telemetry/names.rs); a test compares the names. docs/operate.md has what to do about each.

param location string
param tags object

@description('The Log Analytics workspace.')
param workspaceId string

@description('Who is told.')
param email string

var rules = [
  {
    name: 'rowgate-errors'
    title: 'Rowgate: requests fail'
    description: 'More than 5 of 100 requests in a quarter of an hour were answered with 5xx, out of 20 or more.'
    severity: 1
    column: 'FailedPerHundred'
    threshold: 5
    query: '''
AppRequests
| where AppRoleName == "rowgate" and Name == "POST /mcp"
| summarize Requests = count(), Failed = countif(toint(ResultCode) >= 500)
| where Requests >= 20
| project FailedPerHundred = 100.0 * Failed / Requests
'''
  }
  {
    name: 'rowgate-slow-queries'
    title: 'Rowgate: calls are slow'
    description: 'More than 10 calls in a quarter of an hour took longer than five seconds.'
    severity: 2
    column: 'SlowCalls'
    threshold: 10
    query: '''
AppRequests
| where AppRoleName == "rowgate" and Name startswith "tools/call " and DurationMs > 5000
| summarize SlowCalls = count()
'''
  }
  {
    name: 'rowgate-connections'
    title: 'Rowgate: the database is not reached'
    description: 'More than 3 calls in a quarter of an hour got no connection, or lost it.'
    severity: 1
    column: 'Failures'
    threshold: 3
    query: '''
AppMetrics
| where Name == "rowgate.calls" and tostring(Properties["rowgate.outcome"]) in ("database", "busy")
| summarize Failures = sum(Sum)
'''
  }
  {
    name: 'rowgate-secrets'
    title: 'Rowgate: secrets or tokens can not be had'
    description: 'A secret or a token was asked for in vain, more than twice in a quarter of an hour.'
    severity: 1
    column: 'Failures'
    threshold: 2
    query: '''
AppMetrics
| where Name == "rowgate.secret.duration" and isnotempty(Properties["error.type"])
| summarize Failures = sum(ItemCount)
'''
  }
  {
    name: 'rowgate-unsafe'
    title: 'Rowgate: the database has a hole'
    description: 'The database is not set up as it was migrated, so nothing is served from it.'
    severity: 0
    column: 'Refused'
    threshold: 0
    query: '''
AppMetrics
| where Name == "rowgate.refusals" and tostring(Properties["rowgate.reason"]) == "unsafe database"
| summarize Refused = sum(Sum)
'''
  }
  {
    name: 'rowgate-authentication'
    title: 'Rowgate: callers are refused'
    description: 'More than 50 requests in a quarter of an hour were refused by Rowgate, or named a caller whom the database does not know. What App Service authentication refuses does not get this far.'
    severity: 2
    column: 'Refused'
    threshold: 50
    query: '''
AppMetrics
| where Name == "rowgate.refusals"
| where tostring(Properties["rowgate.reason"]) !in ("statement", "busy", "crowded", "unsafe database")
| summarize Refused = sum(Sum)
'''
  }
]

resource people 'Microsoft.Insights/actionGroups@2023-01-01' = {
  name: 'rowgate-operators'
  location: 'global'
  tags: tags
  properties: {
    groupShortName: 'rowgate'
    enabled: true
    emailReceivers: [
      {
        name: 'operators'
        emailAddress: email
        useCommonAlertSchema: true
      }
    ]
  }
}

resource alerts 'Microsoft.Insights/scheduledQueryRules@2023-12-01' = [for rule in rules: {
  name: rule.name
  location: location
  tags: tags
  kind: 'LogAlert'
  properties: {
    displayName: rule.title
    description: rule.description
    severity: rule.severity
    enabled: true
    scopes: [
      workspaceId
    ]
    evaluationFrequency: 'PT15M'
    windowSize: 'PT15M'
    criteria: {
      allOf: [
        {
          query: rule.query
          timeAggregation: 'Maximum'
          metricMeasureColumn: rule.column
          operator: 'GreaterThan'
          threshold: rule.threshold
          failingPeriods: {
            numberOfEvaluationPeriods: 1
            minFailingPeriodsToAlert: 1
          }
        }
      ]
    }
    autoMitigate: true
    actions: {
      actionGroups: [
        people.id
      ]
    }
    // A new workspace has no tables yet that the query could be checked against.
    skipQueryValidation: true
  }
}]
