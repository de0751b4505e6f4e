// Mails somebody when calls fail, are slow, do not reach the database, or are refused. The queries read what Rowgate
// logs (src/telemetry.rs) and what the Functions host says of each request.

param location string
param tags object

@description('The Log Analytics workspace.')
param workspaceId string

@description('Who is told.')
param email string

var columns = {
  errors: 'FailedPerHundred'
  slow: 'SlowCalls'
  connections: 'Failures'
  refusals: 'Refused'
}

var rules = [
  {
    name: 'rowgate-errors'
    title: 'Rowgate: calls fail'
    description: 'More than 5 of 100 requests in a quarter of an hour were answered with 5xx, out of 20 or more.'
    severity: 1
    column: columns.errors
    threshold: 5
    query: '''
AppRequests
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
    column: columns.slow
    threshold: 10
    query: '''
AppTraces
| extend Line = parse_json(Message)
| where tostring(Line.message) == "call" and tolong(Line.milliseconds) > 5000
| summarize SlowCalls = count()
'''
  }
  {
    name: 'rowgate-connections'
    title: 'Rowgate: the database is not reached'
    description: 'More than 3 calls in a quarter of an hour got no connection, or lost it.'
    severity: 1
    column: columns.connections
    threshold: 3
    query: '''
AppTraces
| extend Line = parse_json(Message)
| where tostring(Line.message) in ("call failed", "not ready")
| where tostring(Line.error) has_any ("can not be reached", "no connection came free", "connection to the database was lost")
| summarize Failures = count()
'''
  }
  {
    name: 'rowgate-authentication'
    title: 'Rowgate: callers are refused'
    description: 'More than 50 requests in a quarter of an hour were refused by Rowgate, or named a caller whom the database does not know. What App Service authentication refuses does not get this far.'
    severity: 2
    column: columns.refusals
    threshold: 50
    query: '''
union
  (AppRequests | where toint(ResultCode) in (401, 403)),
  (AppTraces
  | extend Line = parse_json(Message)
  | where tostring(Line.message) == "call failed"
  | where tostring(Line.error) has_any ("does not know the caller", "did not accept the claim"))
| summarize Refused = count()
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
